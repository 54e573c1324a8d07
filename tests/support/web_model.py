"""WhatsApp Web as a model: a server, a page that may hang, lose calls or be lost itself, and the rows of an outbox."""

from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from itertools import count

from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost
from services.connectors.wwebjs.translation.connector import page_request
from services.message import Outgoing, Status
from services.outbox.outcome_policy import Attempts, settle

#: How a call that sends may go.
ENDS = ("well", "hangs", "late", "fails", "lost before", "lost unsaved", "lost saved")
#: How any other call may go.
QUESTIONS = ("well", "hangs", "lost")


@dataclass
class Local:
    """A message as the page has it."""

    chat: str
    body: str
    ack: int = 0
    saved: bool = True  # whether it survives a reload


class World:
    """The server, the page's profile and the page's present life."""

    def __init__(self):
        self.server = []  # (chat, body, key) in the order of arrival
        self.page = {}  # Local by key
        self.calls = {}  # calls that did not come back: (chat, body) by key
        self.doubles = []  # keys of messages that came into the page while it, or the server, had them
        self._keys = count(1)

    def new_key(self, chat):
        return f"true_{chat}_{next(self._keys)}"

    def add(self, key, chat, body, saved=True):
        if body in {taken for _, taken, _ in self.server} or key in self.page or self._has(body):
            self.doubles.append(key)
        self.page[key] = Local(chat, body, saved=saved)

    def _has(self, body):
        return any(local.body == body and local.ack >= 0 for local in self.page.values())

    def finish_call(self, key):
        """A call that nobody waits for any more comes to its end."""
        chat, body = self.calls.pop(key)
        self.add(key, chat, body)

    def deliver(self, key):
        """The server takes what the page has to send."""
        local = self.page[key]
        self.server.append((local.chat, local.body, key))
        local.ack, local.saved = 1, True

    def waiting(self):
        """Keys that are on their way to the server, the oldest of each chat."""
        found = {}
        for key, local in self.page.items():
            if local.ack == 0:
                found.setdefault(local.chat, key)
        return list(found.values())

    def reload(self):
        """Another life of the page: its calls are gone, and what was neither kept nor sent."""
        self.calls.clear()
        self.page = {key: local for key, local in self.page.items() if local.saved}


class FakePage:
    """The page as `PageSends` calls it: the results of its next sends and next other calls; later ones succeed."""

    def __init__(self, world):
        self.world = world
        self.sends, self.questions = deque(), deque()

    def call(self, function, *arguments, deadline=30.0):
        if function == "WPP.chat.sendTextMessage":
            return self._send(self.sends.popleft() if self.sends else "well", *arguments)
        how = self.questions.popleft() if self.questions else "well"
        if how == "lost":
            self.world.reload()
            raise PageLost("the page crashed")
        if how == "hangs":
            raise CallTimeout(function)
        if function == "__wa.newKey":
            return self.world.new_key(arguments[0])
        assert function == "__wa.sight", function
        local = self.world.page.get(arguments[0])
        return {"ack": None if local is None else local.ack, "running": arguments[0] in self.world.calls}

    def _send(self, how, chat, body, options):
        key, world = options["messageId"], self.world
        if how == "fails":
            raise CallFailed(None, "something is wrong")
        if how == "hangs":
            world.calls[key] = (chat, body)
            raise CallTimeout("sendTextMessage")
        if how != "lost before":
            world.add(key, chat, body, saved=how != "lost unsaved")
        if how.startswith("lost"):
            world.reload()
            raise PageLost("the page crashed")
        if how == "late":
            raise CallTimeout("sendTextMessage")
        return {"id": key, "ack": 0}


@dataclass
class Row:
    """A message in the outbox."""

    message: Outgoing
    status: Status = Status.QUEUED
    due: float = 0.0


@dataclass
class Rows:
    """An outbox of one bot, and the send guard that stores keys in it."""

    rows: dict = field(default_factory=dict)
    in_hand: set = field(default_factory=set)

    def accept(self, chat):
        number = len(self.rows) + 1
        message = Outgoing(number, str(number), 1, f"{chat}@g.us", "text", {"message": str(number)}, 0)
        self.rows[number] = Row(message)

    def refusal(self, page, message):
        return None

    def reserve(self, message, key):
        row = self.rows[message.id]
        row.message = replace(row.message, provider_id=key)

    def claim(self, now):
        """The oldest message of each chat that is not in hand, with its chat."""
        oldest = {}
        for row in self.rows.values():
            if row.status is Status.QUEUED:
                oldest.setdefault(row.message.chat_id, row)
        found = [r for r in oldest.values() if r.message.id not in self.in_hand and r.due <= now]
        self.in_hand |= {row.message.id for row in found}
        return [page_request(row.message) for row in found]

    def record(self, number, outcome, now):
        row = self.rows[number]
        result = settle(row.message, outcome, Attempts(3, 2.0), "worker")
        self.in_hand.discard(number)
        row.due = now + result.after
        if result.status is not None:
            row.status = result.status
            row.message = replace(row.message, attempts=row.message.attempts + 1)
            if result.provider_id:
                row.message = replace(row.message, provider_id=result.provider_id)

    @property
    def open(self):
        """Whether anything is left to be sent."""
        return any(row.status is Status.QUEUED for row in self.rows.values())


def violations(world, rows):
    """What must never be: a message twice at the server or twice in the page, one lost, a chat out of its order."""
    found, arrived = [f"{key} is twice in the page" for key in world.doubles], defaultdict(list)
    for chat, body, _ in world.server:
        arrived[body].append(chat)
    bodies = [row.message.payload["message"] for row in rows.rows.values()]
    found += [f"{body} arrived {len(times)} times" for body, times in arrived.items() if len(times) > 1]
    for row, body in zip(rows.rows.values(), bodies, strict=True):
        if row.status is Status.SENT and body not in arrived:
            found.append(f"{body} counts as sent and never arrived")
        if row.status is Status.FAILED and body in arrived:
            found.append(f"{body} counts as failed and arrived")
        if row.status is Status.UNKNOWN and body not in arrived and _key(world, body) is None:
            found.append(f"{body} is lost")
    return found + _disorder(world, rows)


def _key(world, body):
    return next((key for key, local in world.page.items() if local.body == body), None)


def _disorder(world, rows):
    """Chats in which an earlier message that is not `unknown` arrived after a later one."""
    last, found = defaultdict(int), []
    for chat, body, _ in world.server:
        if rows.rows[int(body)].status is Status.UNKNOWN:
            continue
        if int(body) < last[chat]:
            found.append(f"{body} arrived after {last[chat]}")
        last[chat] = int(body)
    return found
