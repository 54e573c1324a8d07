"""The simulator: a request to send goes through the API's rules and its behaviours and is remembered."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.sandbox.database import Database
from services.sandbox.meta import graph, templates, webhooks
from services.sandbox.meta.behaviour import Behaviour, Behaviours, DialogError
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.graph import READ, UNREADABLE, Message
from services.sandbox.meta.management import MESSAGING, SCOPES, Management
from services.sandbox.meta.media import File, Media
from services.sandbox.meta.registry import Registry
from services.sandbox.meta.store import Receipt, Report, Store
from services.sandbox.meta.webhooks import Reporter
from services.sandbox.request_fields import GraphError, read_object

#: Seconds after a customer's message in which anything may be sent.
WINDOW = 86400
#: Links with these words cannot be fetched: the first is told with the answer, the second later by webhook.
UNFETCHABLE, UNFETCHABLE_LATER = "unfetchable", "unfetchable-later"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: an HTTP status with JSON after `delay` seconds, or, `cut`, a closed connection."""

    http: int
    body: dict[str, Any]
    delay: float = 0.0
    cut: bool = False
    file: File | None = None  # sent instead of the JSON
    path: Path | None = None  # where it lies


def dialog_error(http: int, text: str) -> Answer:
    """An error in 360dialog's own form: it writes the names in camel case, and in snake case with bad keys."""
    snake = {"success": False, "http_code": http, "developer_message": text}
    camel = {"success": False, "httpCode": http, "developerMessage": text}
    return Answer(http, {"meta": snake if http in (401, 403) else camel})


class Simulator:
    """Everything that the sandbox is, without its addresses."""

    def __init__(
        self, database: Database, folder: Path, destinations: Destinations, registry: Registry, app_secret: str
    ) -> None:
        """`folder`: where media lie; `app_secret` signs the webhooks."""
        self.registry, self.media, self.store = registry, Media(database, folder), Store(database)
        self.destinations = destinations
        self.behaviours = Behaviours()
        self.management = Management(registry, app_secret)
        self.reporter = Reporter(self.store, destinations, self.behaviours, app_secret)

    def authorise(self, authorization: str | None, scope: str = "", node: str | None = None) -> str:
        """Let a good bearer token pass, and return it.

        Raises `GraphError` 190, 10 where the token lacks the permission, or 100 where it was not made for the account
        that `node` is, or is a number of.
        """
        token = graph.check_token(authorization)
        if not self.registry.token_works(token):
            raise GraphError(190, "the access token was invalidated or has expired", subcode=467)
        if scope and scope not in self.registry.facts("token", token).get("scopes", SCOPES):
            raise GraphError(10, f"the access token lacks {scope}")
        if node is not None and not self.registry.may_see(token, node):
            raise GraphError(100, f"there is no object with the id {node}, or no permission to see it", 400, 33)
        return token

    def send(self, phone_number_id: str, authorization: str | None, body: bytes) -> Answer:
        """Take a request to send, or refuse it, and remember either."""
        try:
            self.authorise(authorization, MESSAGING, phone_number_id)
        except GraphError as error:
            return self._refuse(phone_number_id, UNREADABLE, body, error)
        return self.take(phone_number_id, body)

    def take(self, phone_number_id: str, body: bytes) -> Answer:
        """The same, of one who may."""
        message = UNREADABLE
        try:
            message = graph.read_message(body)
            message = self._filled_in(phone_number_id, message, body)
        except GraphError as error:
            return self._refuse(phone_number_id, message, body, error)
        return self._behave(self.behaviours.take(message), phone_number_id, message, body)

    def call(self, kind: str, about: str, answer: Callable[[], dict[str, Any]]) -> Answer:
        """Answer a call that sends nothing: `upload`, `media`, `download` or `management`, as behaviours name them."""
        behaviour = self.behaviours.take(Message("", "", about, None, kind))
        delay = behaviour.delay_ms / 1000
        if behaviour.cut == "before_accept":
            return Answer(503, {}, delay, cut=True)
        try:
            self.behaviours.check(behaviour, "", "")
            return Answer(200, answer(), delay, cut=behaviour.cut is not None)
        except GraphError as error:
            return Answer(error.http, error.envelope(), delay)
        except DialogError as error:
            return replace(dialog_error(400, str(error)), delay=delay)

    def download(self, media_id: str, until: str, signature: str) -> Answer:
        """The file of a URL that was given out."""
        files: list[File] = []

        def find() -> dict[str, Any]:
            files.append(self.media.downloaded(media_id, until, signature))
            return {}

        answer = self.call("download", media_id, find)
        return replace(answer, file=files[0], path=self.media.path(files[0])) if files else answer

    def reset(self) -> None:
        """Forget all messages, reports, behaviours, media and what was told; webhooks go where they went."""
        self.behaviours.clear()
        self.store.clear()
        self.registry.clear()
        self.media.clear()

    def _filled_in(self, number: str, message: Message, body: bytes) -> Message:
        """A message whose media, template and number are good. Raises `GraphError` otherwise."""
        told = self.registry.facts("number", number)
        if told:
            self._check_number(number, told)
        if message.media_id is not None and message.kind != "interactive":
            self.media.check(message.media_id, message.kind)
        elif message.link and UNFETCHABLE in message.link and UNFETCHABLE_LATER not in message.link:
            raise GraphError(131053, f"the link cannot be fetched: {message.link}")
        if message.kind == "template":
            return replace(message, text=templates.fill(self.registry, read_object(body)["template"]))
        return message

    def _check_number(self, number: str, told: dict[str, Any]) -> None:
        if not told.get("exists", True):
            raise GraphError(100, f"there is no object with the id {number}", 400, 33)
        if not told.get("registered", True):
            raise GraphError(133010, f"the number {number} is not registered")

    def _behave(self, behaviour: Behaviour, phone_number_id: str, message: Message, body: bytes) -> Answer:
        delay = behaviour.delay_ms / 1000
        if behaviour.cut == "before_accept":
            self._remember(phone_number_id, message, body, "cut")
            return Answer(503, {}, delay, cut=True)
        try:
            self.behaviours.check(behaviour, phone_number_id, message.recipient)
            message = self._in_chat(behaviour, phone_number_id, message)
        except GraphError as error:
            return self._refuse(phone_number_id, message, body, error, delay)
        except DialogError as error:
            self._remember(phone_number_id, message, body, "400")
            return replace(dialog_error(400, str(error)), delay=delay)
        wamid = None if message.kind == READ else graph.new_id()
        told = webhooks.reports(message, wamid, phone_number_id, self._outcome(behaviour, phone_number_id, message),
                                time.time()) if wamid else ()  # fmt: skip
        self._remember(phone_number_id, message, body, "cut" if behaviour.cut else "200", wamid, told)
        self.reporter.wake()
        return Answer(200, graph.success(message, wamid), delay, cut=behaviour.cut is not None)

    def _in_chat(self, behaviour: Behaviour, number: str, message: Message) -> Message:
        """The message with its chat. Raises `GraphError` where the window is closed, or what is to be marked as read
        never came."""
        if message.kind == READ:
            chat = self.store.mark_read(message.target or "", number, time.time())
            if chat is None:
                raise GraphError(131009, "message_id is not of a message that a customer sent to this number")
            return replace(message, recipient=chat)
        if message.kind != "template" and (behaviour.enforce_window or self.behaviours.enforce_window):
            last = self.store.last_inbound(number, message.recipient)
            if last is None or last + WINDOW < time.time():
                raise GraphError(131047, "the customer's last message to this number is older than 24 hours")
        return message

    def _outcome(self, behaviour: Behaviour, number: str, message: Message) -> Behaviour:
        """The behaviour with what is reported of this message, where the rule does not say it."""
        if "statuses" in behaviour.model_fields_set:
            return behaviour
        if message.link and UNFETCHABLE_LATER in message.link:
            return behaviour.model_copy(update={"statuses": ["failed"], "failed_code": 131053})
        if message.kind != "reaction":
            return behaviour
        if self.store.knows(message.target or "", number, message.recipient):
            return behaviour.model_copy(update={"statuses": ["sent"]})
        return behaviour.model_copy(update={"statuses": ["failed"], "failed_code": 131009})

    def _refuse(self, number: str, message: Message, body: bytes, error: GraphError, delay: float = 0.0) -> Answer:
        self._remember(number, message, body, str(error.code))
        return Answer(error.http, error.envelope(), delay)

    def _remember(
        self, number: str, message: Message, body: bytes, answer: str, wamid: str | None = None,
        reports: Iterable[Report] = (),
    ) -> None:  # fmt: skip
        receipt = Receipt(
            time.time(), number, message.recipient, message.kind, message.text, message.target, message.callback_data,
            wamid, answer, body.decode(errors="replace"),
        )  # fmt: skip
        self.store.add(receipt, reports)
