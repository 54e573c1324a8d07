"""A model of WhatsApp Web for property tests: a server, an unreliable page, and the rows of an outbox."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from services.connector import PageRequest, Refusal
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost
from services.connectors.wwebjs.translation.connector import page_request
from services.message import Outcome, Outgoing, Status
from services.outbox.outcome_policy import Attempts, settle

#: The outcomes of a call that sends.
ENDS = ("well", "hangs", "late", "fails", "lost before", "lost unsaved", "lost saved")
#: The outcomes of any other call.
QUESTIONS = ("well", "hangs", "lost")


@dataclass
class Local:
    """A message in the page."""

    chat: str
    body: str
    ack: int = 0
    saved: bool = True  # whether it survives a reload


class World:
    """The state of the server, of the page's profile and of the loaded page."""

    def __init__(self) -> None:
        self.server: list[tuple[str, str, str]] = []  # (chat, body, key) in the order of arrival
        self.page: dict[str, Local] = {}  # by key
        self.calls: dict[str, tuple[str, str]] = {}  # calls that have not returned: (chat, body) by key
        self.reports: list[dict[str, Any]] = []  # of the page about calls that send, for the session to hear
        self.doubles: list[str] = []  # keys of messages that were added to the page although it or the server had them
        self._keys = count(1)

    def new_key(self, chat: str) -> str:
        return f"true_{chat}_{next(self._keys)}"

    def add(self, key: str, chat: str, body: str, saved: bool = True) -> None:
        if body in {taken for _, taken, _ in self.server} or key in self.page or self._has(body):
            self.doubles.append(key)
        self.page[key] = Local(chat, body, saved=saved)

    def _has(self, body: str) -> bool:
        return any(local.body == body and local.ack >= 0 for local in self.page.values())

    def finish_call(self, key: str) -> None:
        """Finish a call whose caller has timed out."""
        chat, body = self.calls.pop(key)
        self.add(key, chat, body)

    def deliver(self, key: str) -> None:
        """Let the server receive a message of the page."""
        local = self.page[key]
        self.server.append((local.chat, local.body, key))
        local.ack, local.saved = 1, True
        self.reports.append({"key": key, "ack": 1})

    def refuse(self, key: str) -> None:
        """Let the server refuse a message of the page."""
        self.page[key].ack = -1
        self.reports.append({"key": key, "ack": -1})

    def waiting(self) -> list[str]:
        """The keys of unsent messages, the oldest of each chat."""
        found: dict[str, str] = {}
        for key, local in self.page.items():
            if local.ack == 0:
                found.setdefault(local.chat, key)
        return list(found.values())

    def reload(self) -> None:
        """Load the page again. Its calls and the messages that were neither saved nor sent are lost."""
        self.calls.clear()
        self.page = {key: local for key, local in self.page.items() if local.saved}


class FakePage:
    """Stands in for the page that `PageSends` calls.

    `sends` and `questions` hold the outcomes of its next calls. Later calls succeed.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sends: deque[str] = deque()
        self.questions: deque[str] = deque()

    def call_directly(self, function: str, *arguments: Any, deadline: float = 30.0) -> Any:
        if function == "__wa.sendTexts":
            return self._send_texts(arguments)
        if function == "WPP.chat.sendTextMessage":
            return self._send(self.sends.popleft() if self.sends else "well", *arguments)
        how = self.questions.popleft() if self.questions else "well"
        if how == "lost":
            self.world.reload()
            raise PageLost("the page crashed")
        if how == "hangs":
            raise CallTimeout(function)
        if function == "__wa.admitAll":
            messages = [{"found": True, "key": self.world.new_key(chat)} for chat, _ in arguments[0]]
            return {"messages": messages, "spareIds": []}
        assert function == "__wa.sightAll", function
        return [self._sight(key) for key in arguments[0]]

    def _sight(self, key: str) -> dict[str, Any]:
        local = self.world.page.get(key)
        return {"ack": None if local is None else local.ack, "running": key in self.world.calls}

    def _send_texts(self, texts: Any) -> None:
        """Begin several texts; those after one with which the page is lost do not begin."""
        late = False
        for chat, body, options in texts[0]:
            key, how = options["messageId"], self.sends.popleft() if self.sends else "well"
            match how:
                case "fails":
                    failure = {"code": None, "message": "something is wrong"}
                    self.world.reports.append({"key": key, "failure": failure})
                case "hangs":
                    self.world.calls[key] = (chat, body)
                case _:
                    self._send("well" if how == "late" else how, chat, body, options)
                    late |= how == "late"
        if late:
            raise CallTimeout("sendTexts")

    def _send(self, how: str, chat: str, body: str, options: Mapping[str, str]) -> dict[str, Any]:
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
    """The outbox of one bot in memory, and the guard that reserves keys in it (`SendGuard`)."""

    rows: dict[int, Row] = field(default_factory=dict)
    in_hand: set[int] = field(default_factory=set)
    spare_keys: Callable[[str], str] | None = None  # generates keys for claims, by chat; None: the guard asks the page

    def accept(self, chat: str) -> None:
        number = len(self.rows) + 1
        message = Outgoing(number, str(number), 1, f"{chat}@g.us", "text", {"message": str(number)}, 0)
        self.rows[number] = Row(message)

    def admit(self, page: Any, messages: Sequence[Outgoing]) -> dict[int, str | Refusal]:
        answers = page.call_directly("__wa.admitAll", [(message.chat_id, False) for message in messages])
        found: dict[int, str | Refusal] = {}
        for message, answer in zip(messages, answers["messages"], strict=True):
            found[message.id] = answer["key"]
            self.reserve(message, answer["key"])
        return found

    def reserve(self, message: Outgoing, key: str | None) -> None:
        row = self.rows[message.id]
        row.message = replace(row.message, provider_id=key)

    def claim(self, now: float) -> list[PageRequest]:
        """Claim the oldest message of each chat, unless it is claimed."""
        oldest: dict[str, Row] = {}
        for row in self.rows.values():
            if row.status is Status.QUEUED:
                oldest.setdefault(row.message.chat_id, row)
        found = [r for r in oldest.values() if r.message.id not in self.in_hand and r.due <= now]
        self.in_hand |= {row.message.id for row in found}
        return [page_request(self._claimed(row)) for row in found]

    def _claimed(self, row: Row) -> Outgoing:
        """The message, with a new key if the claim itself reserves one."""
        message = row.message
        if self.spare_keys is None or message.provider_id is not None or message.attempts:
            return message
        key = self.spare_keys(message.chat_id)
        self.reserve(message, key)
        return replace(message, new_key=key)

    def record(self, number: int, outcome: Outcome | None, now: float) -> None:
        """Record the outcome of a claimed message. None: it is queued again."""
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
    def open(self) -> bool:
        """Whether messages are left to send."""
        return any(row.status is Status.QUEUED for row in self.rows.values())


def violations(world: World, rows: Rows) -> list[str]:
    """Broken promises: a duplicate at the server or in the page, a lost message, a chat out of order."""
    found = [f"{key} is twice in the page" for key in world.doubles]
    arrived: defaultdict[str, list[str]] = defaultdict(list)
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


def _key(world: World, body: str) -> str | None:
    return next((key for key, local in world.page.items() if local.body == body), None)


def _disorder(world: World, rows: Rows) -> list[str]:
    """The messages that arrived after a later message of their chat, unless they are `unknown`."""
    last: defaultdict[str, int] = defaultdict(int)
    found = []
    for chat, body, _ in world.server:
        if rows.rows[int(body)].status is Status.UNKNOWN:
            continue
        if int(body) < last[chat]:
            found.append(f"{body} arrived after {last[chat]}")
        last[chat] = int(body)
    return found
