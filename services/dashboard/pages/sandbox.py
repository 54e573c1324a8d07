"""The sandbox, where it runs: write as a customer, scan a QR code, and let the simulated networks fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.datastructures import FileStorage

from bisnesctl.bots import store, web_sessions
from bisnesctl.bots.store import Bot
from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.clients import customer_messages, sandbox_client
from bisnesctl.clients.api_client import Upload
from bisnesctl.errors import BisnesError, NotRunning, UsageError
from bisnesctl.people.roles import Role
from services.api.messages import queries
from services.api.messages.queries import Chat
from services.api.messages.request_fields import InvalidChatId, normalise_chat_id
from services.dashboard import access, audit, parameters, rendering, texts
from services.dashboard.access import needs
from services.dashboard.chats import quotes
from services.dashboard.context import context
from services.dashboard.pages.answers import MAX_FILE_FORM
from services.dashboard.pages.chats import EMOJI, MAX_FILE
from services.database.connection import DatabaseError
from services.media import kinds, names

pages = Blueprint("sandbox", __name__)
#: The ways in which messages to Meta fail, with the rules of the simulator.
META_FAILURES: Mapping[str, Mapping[str, Any]] = {
    "slow": {"delay_ms": 3000},
    "refused": {"error_code": 131026},
    "answer_lost": {"cut": "after_accept"},
    "not_arrived": {"cut": "before_accept"},
    "fails_later": {"statuses": ["failed"]},
    "repeated": {"duplicate_webhooks": 2, "shuffle_webhooks": True},
    "window_closed": {"enforce_window": True},
}
#: The same for messages of WhatsApp Web.
WEB_FAILURES: Mapping[str, Mapping[str, Any]] = {
    "web_lost": {"answer": "ignored"},
    "web_unacknowledged": {"answer": "unacknowledged"},
    "web_refused": {"answer": "refused"},
    "web_slow": {"delay_ms": 3000},
}
#: The ways in which the page of a linked number fails, with the control of the simulator and its fields.
PAGE_FAILURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "offline": ("offline", {}), "online": ("offline", {"offline": False}), "hang": ("hang", {}), "crash": ("crash", {}),
    "leak": ("leak", {}), "reload": ("reload", {}), "conflict": ("conflict", {}), "outdated": ("update", {}),
    "banned": ("ban", {}), "not_banned": ("ban", {"mode": "MAIN"}), "logout": ("logout", {}),
}  # fmt: skip
#: Characters of a text that a rule looks for.
MAX_MATCH = 200
#: Fields of a form with the option that a customer chose.
OPTIONS = ("button", "row")
#: Messages of a customer's chat that its page shows.
PAGE_SIZE = 30
#: Makes the page that says why something was not done, from the status and the reason.
Refused = Callable[[int, str], Any]


@dataclass(frozen=True)
class Networks:
    """The simulated networks as they are now."""

    numbers: list[Bot]
    #: Sessions that show a QR code.
    scanning: list[WebSession]
    devices: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    web_rules: list[dict[str, Any]]


@pages.get("/sandbox")
@needs(Role.VIEWER)
def index() -> Any:
    """The rules in force, the linked devices, and the forms."""
    _port()
    return _page()


@pages.get("/sandbox/customer")
@needs(Role.OPERATOR)
def customer() -> Any:
    """The chat of a customer with a number, as the customer sees it, and the forms to write into it."""
    _port()
    return _customer()


@pages.post("/sandbox/say")
@needs(Role.OPERATOR, max_form=MAX_FILE_FORM)
def say() -> Any:
    """Write to a number as a customer: a text, a file, a reply, a reaction, a place, or an answer."""
    port, form, upload = _port(), request.form, request.files.get("file")
    company, phone = _named(form.get("number", ""))
    sender, file = form.get("sender", "").strip(), _file(upload) if upload is not None and upload.filename else None
    refused = _customer if "chat" in form else _page

    def send() -> None:
        with context().sources.connection() as connection:
            keys = context().sources.deployment().settings.decryption_keys
            recipient = sandbox_client.number_of(connection, company, phone, keys)
        fields = customer_messages.from_form(recipient.web, form)
        fields |= {"to": recipient.number, "from": sender, "name": form.get("name", "").strip()}
        sandbox_client.say(port, recipient.web, fields, file)

    if file is None and not any(form.get(each, "").strip() for each in ("text", "message_id", "latitude", *OPTIONS)):
        return refused(400, texts.text("sandbox.empty"))
    target = url_for("sandbox.customer", number=form["number"], sender=sender) if "chat" in form else ""
    return _change("say as a customer", send, refused, target, number=form["number"], sender=sender)


@pages.post("/sandbox/scan")
@needs(Role.OPERATOR)
def scan() -> Any:
    """Scan the QR code of a number with a phone, or type a pairing code on it."""
    port, form = _port(), request.form
    code, phone = form.get("code", "").strip(), form.get("phone", "").strip()

    def link() -> None:
        if code:
            sandbox_client.pair(port, code)
            return
        company, index = _named(form.get("number", ""))
        with context().sources.connection() as connection:
            shown = sandbox_client.qr_of(connection, company, index)
        sandbox_client.scan(port, phone, lambda: shown, 0)

    return _change("scan", link, number=form.get("number", ""), phone=phone)


@pages.post("/sandbox/rules")
@needs(Role.OPERATOR)
def add_rule() -> Any:
    """Let the next messages fail."""
    port, form = _port(), request.form
    failure, times, match = form.get("failure", ""), form.get("times", ""), form.get("match", "").strip()[:MAX_MATCH]
    web = failure in WEB_FAILURES
    rule = dict((WEB_FAILURES if web else META_FAILURES).get(failure) or abort(400))
    rule |= {"match": match} if match else {}
    rule |= {"times": int(times[:6])} if times.isdecimal() and int(times[:6]) > 0 else {}
    if failure == "refused" and form.get("code", "").isdecimal():
        rule["error_code"] = int(form["code"][:6])
    return _change("let messages fail", lambda: sandbox_client.add_rule(port, web, rule), failure=failure)


@pages.post("/sandbox/rules/delete")
@needs(Role.OPERATOR)
def delete_rules() -> Any:
    """Let no messages fail any more."""
    port = _port()

    def delete() -> None:
        for web in (False, True):
            sandbox_client.delete_rules(port, web)

    return _change("end failures", delete)


@pages.post("/sandbox/page")
@needs(Role.OPERATOR)
def fail_page() -> Any:
    """Let the page of a linked number fail."""
    port, number = _port(), request.form.get("linked", "")
    control, fields = PAGE_FAILURES.get(request.form.get("failure", "")) or abort(400)
    failure = request.form["failure"]
    return _change("let page fail", lambda: sandbox_client.fail_page(port, number, control, dict(fields)),
                   number=number, failure=failure)  # fmt: skip


def _port() -> int:
    """The port of the simulators. If they do not run, the page does not exist."""
    settings = context().sources.deployment().settings
    return settings.sandbox_port if settings.sandbox else abort(404)


def _named(name: str) -> tuple[str, int]:
    company, _, text = name.rpartition("-")
    phone = parameters.number(text)
    return (company, phone) if company and phone is not None else abort(400)


def _change(
    action: str, change: Callable[[], None], refused: Refused | None = None, target: str = "", **arguments: str
) -> Any:
    """Changes something, and shows `target`. `refused`: makes the page if that fails; without both: the first page."""
    try:
        change()
    except BisnesError as error:
        return (refused or _page)(400 if isinstance(error, UsageError) else 503, str(error))
    audit.record(context().settings, access.person().name, f"sandbox: {action}", **arguments)
    return redirect(target or url_for("sandbox.index"))


def _file(upload: FileStorage) -> Upload:
    name = names.safe(upload.filename) or "file"
    mime_type = kinds.normalise(upload.mimetype) or "application/octet-stream"
    return Upload(name, cast(Any, upload.stream), mime_type)


def _customer(status: int = 200, message: str = "") -> Any:
    """The page of a customer's chat. `message`: why something was not sent."""
    given = request.form or request.args
    name, sender = given.get("number", ""), given.get("sender", "").strip()
    company, phone = _named(name)
    try:
        chat = normalise_chat_id(sender, company)
    except InvalidChatId:
        return _page(400, texts.text("sandbox.no_customer"))
    with context().sources.connection() as connection:
        numbers = store.find(connection, company, phone) or abort(404)
        found, _ = queries.page(connection, Chat(company, chat, phone), queries.START, PAGE_SIZE, "")
        quoted = quotes.of_messages(connection, company, found)
    chosen = given.get("reply_to", "")
    reply = next((each for each in found if chosen and each["providerId"] == chosen), None)
    return rendering.page(
        "customer.html", status, name=name, number=numbers[0], sender=sender, chat=chat, company=company,
        messages=found[::-1], quotes=quoted, reply=reply, message=message, emoji=EMOJI, max_file=MAX_FILE, form=given,
    )  # fmt: skip


def _page(status: int = 200, message: str = "") -> Any:
    found, problem = None, ""
    try:
        found = _networks()
    except (NotRunning, DatabaseError) as error:
        problem = str(error).strip()
    typed = {name: request.form.get(name, "") for name in ("number", "sender", "name", "text", "phone", "match")}
    return rendering.page(
        "sandbox.html", status, found=found, problem=problem, message=message, form=typed,
        meta_failures=META_FAILURES, web_failures=WEB_FAILURES, page_failures=PAGE_FAILURES,
    )  # fmt: skip


def _networks() -> Networks:
    port = _port()
    with context().sources.connection() as connection:
        numbers, sessions = store.find(connection), web_sessions.find(connection)
    scanning = [each for each in sessions if each.qr is not None]
    devices = [each for each in sandbox_client.devices(port) if each["linked"]]
    return Networks(
        numbers, scanning, devices, sandbox_client.rules(port, web=False), sandbox_client.rules(port, web=True)
    )
