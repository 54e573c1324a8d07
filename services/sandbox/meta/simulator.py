"""Meta's side as a whole: a request to send passes the API's rules and the injected faults, and is stored."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.sandbox.database import Database
from services.sandbox.meta import graph, webhooks
from services.sandbox.meta.accounts import template_parameters
from services.sandbox.meta.accounts.block_lists import BlockLists
from services.sandbox.meta.accounts.groups import Groups
from services.sandbox.meta.accounts.management import DEFAULT_SCOPES, MESSAGING_SCOPE, Management
from services.sandbox.meta.accounts.profiles import Profiles
from services.sandbox.meta.behaviour import Behaviour, Behaviours, Dialog360Error
from services.sandbox.meta.coexistence import Coexistence
from services.sandbox.meta.destinations import Destinations
from services.sandbox.meta.graph import READ_MARK, UNREADABLE, Message
from services.sandbox.meta.links import Links
from services.sandbox.meta.media import File, Media
from services.sandbox.meta.registry import Facts, Registry
from services.sandbox.meta.request_fields import GraphError, read_object
from services.sandbox.meta.store import SendRequest, Store, WebhookUpdate
from services.sandbox.meta.webhooks import WebhookSender

#: How long anything may be sent after a customer's message; later only templates.
CUSTOMER_WINDOW_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP: a status with JSON after `delay` seconds, or, with `cut`, a closed connection."""

    http: int
    body: dict[str, Any]
    delay: float = 0.0
    cut: bool = False
    file: File | None = None  # sent instead of the JSON
    path: Path | None = None  # of the file


def dialog360_error(http: int, text: str) -> Answer:
    """An error in 360dialog's own form: in camel case, but in snake case for bad keys."""
    snake = {"success": False, "http_code": http, "developer_message": text}
    camel = {"success": False, "httpCode": http, "developerMessage": text}
    return Answer(http, {"meta": snake if http in (401, 403) else camel})


class Simulator:
    """The state of Meta's side, and what the routes do with it."""

    def __init__(
        self, database: Database, folder: Path, destinations: Destinations, registry: Registry, app_secret: str
    ) -> None:
        """`folder`: for media; `app_secret` signs the webhooks."""
        self.registry = registry
        self.media = Media(database, folder)
        self.store = Store(database)
        self.destinations = destinations
        self.behaviours = Behaviours()
        self.links = Links()
        self.management = Management(registry, app_secret)
        self.profiles = Profiles(registry)
        self.block_lists = BlockLists(registry, self.store.last_inbound_at)
        self.groups = Groups(registry, self.publish)
        self.coexistence = Coexistence(registry, self.store)
        self.webhook_sender = WebhookSender(self.store, destinations, self.behaviours, app_secret)

    def authorise(self, authorization: str | None, scope: str = "", node: str | None = None) -> str:
        """Return the bearer token if it is valid.

        Raises `GraphError` 190, 10 if the token lacks the scope, or 100 if the token was issued for another account
        than `node`, or than the account of `node`.
        """
        token = graph.check_token(authorization)
        if not self.registry.is_valid_token(token):
            raise GraphError(190, "the access token was invalidated or has expired", subcode=467)
        if scope and scope not in self.registry.facts("token", token).get("scopes", DEFAULT_SCOPES):
            raise GraphError(10, f"the access token lacks {scope}")
        if node is not None and not self.registry.may_see(token, node):
            raise GraphError(100, f"there is no object with the id {node}, or no permission to see it", 400, 33)
        return token

    def send(self, phone_number_id: str, authorization: str | None, body: bytes) -> Answer:
        """Answer a request to send. It is stored even if it is refused."""
        try:
            self.authorise(authorization, MESSAGING_SCOPE, phone_number_id)
        except GraphError as error:
            return self._refuse(phone_number_id, UNREADABLE, body, error)
        return self.send_authorised(phone_number_id, body)

    def send_authorised(self, phone_number_id: str, body: bytes) -> Answer:
        """Answer a request to send whose credential was checked."""
        message = UNREADABLE
        try:
            message = graph.read_message(body)
            message = self._checked(phone_number_id, message, body)
        except GraphError as error:
            return self._refuse(phone_number_id, message, body, error)
        return self._apply(self.behaviours.use_for(message), phone_number_id, message, body)

    def publish(self, updates: list[WebhookUpdate]) -> None:
        """Have updates delivered."""
        self.store.add_inbound([], updates)
        self.webhook_sender.wake()

    def call(self, kind: str, target: str, answer: Callable[[], dict[str, Any] | tuple[int, dict[str, Any]]]) -> Answer:
        """Answer a call that sends no message. `kind` is one of the rules' `CALL_KINDS`.

        `answer` returns the body, or the HTTP status and the body.
        """
        behaviour = self.behaviours.use_for(Message("", "", target, None, kind))
        delay = behaviour.delay_ms / 1000
        if behaviour.cut == "before_accept":
            return Answer(503, {}, delay, cut=True)
        try:
            self.behaviours.check(behaviour, "", "")
            found = answer()
            http, body = found if isinstance(found, tuple) else (200, found)
            return Answer(http, body, delay, cut=behaviour.cut is not None)
        except GraphError as error:
            return Answer(error.http, error.envelope(), delay)
        except Dialog360Error as error:
            return replace(dialog360_error(400, str(error)), delay=delay)

    def download(self, media_id: str, until: str, signature: str) -> Answer:
        """Answer a download from a URL that the API issued."""
        files: list[File] = []

        def find() -> dict[str, Any]:
            files.append(self.media.downloaded(media_id, until, signature))
            return {}

        answer = self.call("download", media_id, find)
        return replace(answer, file=files[0], path=self.media.path(files[0])) if files else answer

    def reset(self) -> None:
        """Delete messages, updates, rules, media and facts. Destinations of webhooks stay."""
        self.behaviours.clear()
        self.links.fetched = "local"
        self.store.clear()
        self.registry.clear()
        self.media.clear()

    def _checked(self, number: str, message: Message, body: bytes) -> Message:
        """The message with the WhatsApp id of its recipient and the text and the file of its template.

        Raises `GraphError` if number, group, media or template are bad.
        """
        facts = self.registry.facts("number", number)
        if facts:
            _check_number(number, facts)
        self.registry.ensure("number", number)
        if message.to_group:
            self.groups.check_recipient(number, message.recipient)
        else:
            message = replace(message, recipient=self.registry.whatsapp_id(message.recipient))
        if message.kind == "template":
            filled = template_parameters.fill(self.registry, read_object(body)["template"])
            message = replace(message, text=filled.text, attachment=filled.attachment)
        if message.attachment is not None and message.attachment.media_id is not None:
            self.media.check(message.attachment.media_id, message.attachment.kind)
        return message

    def _apply(self, behaviour: Behaviour, phone_number_id: str, message: Message, body: bytes) -> Answer:
        """Answer as the rule requires."""
        delay = behaviour.delay_ms / 1000
        if behaviour.cut == "before_accept":
            self._store(phone_number_id, message, body, "cut")
            return Answer(503, {}, delay, cut=True)
        try:
            self.behaviours.check(behaviour, phone_number_id, message.recipient)
            message = self._in_chat(behaviour, phone_number_id, message)
            behaviour = self._with_statuses(behaviour, phone_number_id, message)
        except GraphError as error:
            return self._refuse(phone_number_id, message, body, error, delay)
        except Dialog360Error as error:
            self._store(phone_number_id, message, body, "400")
            return replace(dialog360_error(400, str(error)), delay=delay)
        wamid = None if message.kind == READ_MARK else graph.new_id()
        updates = webhooks.status_updates(message, wamid, phone_number_id, behaviour, time.time()) if wamid else ()
        self._store(phone_number_id, message, body, "cut" if behaviour.cut else "200", wamid, updates)
        self.webhook_sender.wake()
        return Answer(200, graph.success(message, wamid), delay, cut=behaviour.cut is not None)

    def _in_chat(self, behaviour: Behaviour, number: str, message: Message) -> Message:
        """The message with its recipient.

        Raises `GraphError` if the business has blocked the customer, if the customer's window is closed, or if the
        message to quote or to mark as read does not exist.
        """
        if message.kind == READ_MARK:
            chat = self.store.mark_read(message.target or "", number, time.time())
            if chat is None:
                raise GraphError(131009, "message_id is not of a message that a customer sent to this number")
            return replace(message, recipient=chat)
        if self.block_lists.is_blocked(number, message.recipient):
            raise GraphError(130403, "the number has blocked this customer")
        quotes = message.target is not None and message.kind != "reaction"
        if quotes and not self.store.is_in_chat(message.target or "", number, message.recipient):
            raise GraphError(131009, "context.message_id is not of a message in this chat")
        enforced = behaviour.enforce_window or self.behaviours.enforce_window
        if enforced and message.kind != "template" and not message.to_group:
            last = self.store.last_inbound_at(number, message.recipient)
            if last is None or last + CUSTOMER_WINDOW_SECONDS < time.time():
                raise GraphError(131047, "the customer's last message to this number is older than 24 hours")
        return message

    def _with_statuses(self, behaviour: Behaviour, number: str, message: Message) -> Behaviour:
        """The behaviour with the statuses that Meta reports of this message, unless the rule names some.

        Raises `GraphError` 131053 if the message's link is refused at once.
        """
        failure = self.links.failure(message.attachment)
        if "statuses" in behaviour.model_fields_set:
            return behaviour
        if failure is not None:
            return _failing(behaviour, 131053, failure)
        if message.kind != "reaction":
            return behaviour
        if self.store.is_in_chat(message.target or "", number, message.recipient):
            return behaviour.model_copy(update={"statuses": ["sent"]})
        return _failing(behaviour, 131009, "reaction.message_id is not of a message in this chat")

    def _refuse(self, number: str, message: Message, body: bytes, error: GraphError, delay: float = 0.0) -> Answer:
        self._store(number, message, body, str(error.code))
        return Answer(error.http, error.envelope(), delay)

    def _store(
        self, number: str, message: Message, body: bytes, answer: str, wamid: str | None = None,
        updates: Iterable[WebhookUpdate] = (),
    ) -> None:  # fmt: skip
        request = SendRequest(
            time.time(), number, message.recipient, message.kind, message.text, message.target, message.callback_data,
            wamid, answer, body.decode(errors="replace"),
        )  # fmt: skip
        self.store.add(request, updates)


def _check_number(number: str, facts: Facts) -> None:
    if not facts.get("exists", True):
        raise GraphError(100, f"there is no object with the id {number}", 400, 33)
    if not facts.get("registered", True):
        raise GraphError(133010, f"the number {number} is not registered")


def _failing(behaviour: Behaviour, code: int, details: str) -> Behaviour:
    return behaviour.model_copy(update={"statuses": ["failed"], "failed_code": code, "failed_details": details})
