"""The controls of WhatsApp Web, below /_sandbox/wa/: links, messages of customers, injected faults."""

import time
from functools import partial
from typing import Any, Literal

from flask import Blueprint, redirect, request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from werkzeug.wrappers import Response

from services.sandbox.control_requests import control_blueprint, refusal, sent_fields, without_empty
from services.sandbox.web import page
from services.sandbox.web.chats import PLAYED, SENT, new_id
from services.sandbox.web.client_routes import MAX_UPLOAD_BYTES
from services.sandbox.web.customer_message import CustomerMessage, compose
from services.sandbox.web.devices import ANOTHER_WINDOW, CLOSED_AFTER_SECONDS, Device, NotFound
from services.sandbox.web.network import Network
from services.sandbox.web.rules import Acks, WebRule

PREFIX = "/_sandbox/wa"
#: Messages in one list, at most and by default.
MAX_LISTED_MESSAGES = 10_000


class ControlRequest(BaseModel):
    """The body of a control."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scan(ControlRequest):
    """A phone scans a QR code: the only one shown, the given one, or that of a device. Or it enters a pairing code."""

    number: str = Field("", pattern="^([0-9]{5,15})?$")
    qr: str = ""
    device: str = ""
    code: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> "Scan":
        if not self.number and not self.code:
            raise ValueError("give the `number` that scans, or the pairing `code`")
        return self


class Ack(ControlRequest):
    """WhatsApp's server acknowledges a message: 1 sent; or the customer's phone does: 2 delivered, 3 read, 4 played."""

    number: str
    key: str
    ack: int = Field(ge=SENT, le=PLAYED)


class PageSelector(ControlRequest):
    """The pages of a linked number, or the page of a device."""

    number: str = ""
    device: str = ""


class Logout(PageSelector):
    """The phone logs the device out."""

    reason: str = "user_initiated"


class Mode(PageSelector):
    """A mode of the page, such as TOS_BLOCK (banned), SMB_TOS_BLOCK, PROXYBLOCK; MAIN is the normal one."""

    mode: Literal["TOS_BLOCK", "SMB_TOS_BLOCK", "PROXYBLOCK", "DEPRECATED_VERSION", "MAIN"] = "TOS_BLOCK"


class Offline(PageSelector):
    """The page loses its network, or gets it back."""

    offline: bool = True


class Hang(PageSelector):
    """The page stops responding for N milliseconds; 0: for ever."""

    milliseconds: int = Field(0, ge=0)


class Leak(PageSelector):
    """The page leaks memory."""

    mb_per_second: float = Field(50, gt=0, le=1000)
    limit_mb: float = Field(2000, gt=0)


#: Faults that the page itself produces, by the name of their route.
PAGE_FAULTS: dict[str, type[PageSelector]] = {
    "hang": Hang, "crash": PageSelector, "leak": Leak, "reload": PageSelector,
}  # fmt: skip


class BackendEvent(PageSelector):
    """An event of WhatsApp's servers, such as account_temporarily_banned."""

    event: str = "account_temporarily_banned"


class Presence(ControlRequest):
    """A customer is composing, recording, available or unavailable."""

    number: str
    chat: str
    state: Literal["composing", "recording", "available", "unavailable"] = "composing"


class Absent(ControlRequest):
    """Whether a number is not on WhatsApp."""

    number: str
    absent: bool = True


def blueprint(network: Network) -> Blueprint:
    """All controls of WhatsApp Web."""
    control = control_blueprint("wa-control")
    control.after_request(_show_page_again)
    control.register_error_handler(NotFound, lambda error: refusal(str(error), "unknown", 409))
    for add in (_add_page, _add_lists, _add_links, _add_inbound, _add_rules, _add_states, _add_page_faults):
        add(control, network)
    return control


def _fields() -> dict[str, Any]:
    fields = sent_fields()
    return fields if fields.pop("page", None) is None else without_empty(fields)


def _show_page_again(response: Response) -> Response:
    """Answer a form of the page with the page."""
    if response.status_code == 200 and "page" in request.form:
        return redirect(f"{PREFIX}/", 303)
    return response


def _add_page(control: Blueprint, network: Network) -> None:
    @control.get("/")
    def show() -> Response:
        """The page for people."""
        network.chats.apply_due_acks()
        devices = [_described(device) for device in network.devices.all()]
        return page.render(network, [each for each in devices if each["linked"] or each["open"]], request.base_url)


def _add_lists(control: Blueprint, network: Network) -> None:
    @control.get("/state")
    def state() -> dict[str, Any]:
        """All devices and their states."""
        return {"devices": [_described(device) for device in network.devices.all()]}

    @control.get("/messages")
    def messages() -> dict[str, Any]:
        """Messages of both sides in order; `arrivals` counts how often a page sent each."""
        network.chats.apply_due_acks()
        query = request.args
        limit = min(query.get("limit", MAX_LISTED_MESSAGES, type=int), MAX_LISTED_MESSAGES)
        found = network.chats.search(query.get("number"), query.get("text"), query.get("after", 0, type=int), limit)
        return {"messages": found, "doubles": [message["key"] for message in found if message["arrivals"] > 1]}

    @control.get("/actions")
    def actions() -> dict[str, Any]:
        """Actions of pages besides sending: edit, revoke, forget, react, seen, typing, exists."""
        return {"actions": network.chats.actions(request.args.get("number"))}

    @control.post("/reset")
    def reset() -> dict[str, Any]:
        network.reset()
        return {"success": True}


def _described(device: Device) -> dict[str, Any]:
    columns = {name: getattr(device, name) for name in ("id", "number", "mode", "version")}
    return columns | {
        "linked": bool(device.number), "ref": device.ref, "code": device.code, "offline": bool(device.offline),
        "conflict": device.boot == ANOTHER_WINDOW, "open": device.seen > time.time() - CLOSED_AFTER_SECONDS,
    }  # fmt: skip


def _add_links(control: Blueprint, network: Network) -> None:
    devices = network.devices

    @control.post("/scan")
    def scan() -> dict[str, Any]:
        posted = Scan.model_validate(_fields())
        if posted.code:
            return _described(devices.pair(posted.code))
        return _described(devices.scan(posted.number, posted.qr, posted.device))

    @control.post("/logout")
    def logout() -> dict[str, Any]:
        posted = Logout.model_validate(_fields())
        for device in _selected(network, posted):
            devices.unlink(device.id, posted.reason)
        return {"success": True}

    @control.post("/absent")
    def absent() -> dict[str, Any]:
        posted = Absent.model_validate(_fields())
        network.set_absent(posted.number, posted.absent)
        return {"success": True}


def _selected(network: Network, selector: PageSelector) -> list[Device]:
    return [network.devices.find(selector.device)] if selector.device else network.devices.of_number(selector.number)


def _add_inbound(control: Blueprint, network: Network) -> None:
    @control.post("/say")
    def say() -> dict[str, Any]:
        request.max_content_length = MAX_UPLOAD_BYTES
        posted = CustomerMessage.model_validate(_fields())
        number = posted.to or _only_number(network)
        upload = request.files.get("file")
        file = network.files.store(upload.stream, upload.mimetype, upload.filename) if upload else None
        return {"success": True, "number": number, "ids": deliver(network, number, posted, file)}

    @control.post("/presence")
    def presence() -> dict[str, Any]:
        posted = Presence.model_validate(_fields())
        network.send_update(posted.number, kind="presence", chat=posted.chat, state=posted.state)
        return {"success": True}

    @control.post("/ack")
    def ack() -> dict[str, Any]:
        posted = Ack.model_validate(_fields())
        network.chats.acknowledge(posted.number, posted.key, posted.ack)
        return {"success": True}


def _only_number(network: Network) -> str:
    numbers = {device.number for device in network.devices.all() if device.number}
    if len(numbers) != 1:
        raise NotFound("several numbers are linked: name one with `to`" if numbers else "no number is linked yet")
    return numbers.pop()


def deliver(network: Network, number: str, posted: CustomerMessage, file: dict[str, Any] | None) -> list[str]:
    """Deliver a customer's message to a number. Returns the keys of the messages."""
    sender = None if posted.echo else posted.customer
    if posted.kind in ("edit", "revoke"):
        values = {"body": posted.text} if posted.kind == "edit" else {}
        return [network.change(number, posted.kind, posted.message_id, sender, **values)["key"]]
    if posted.kind == "reaction":
        key = f"false_{posted.chat_id}_{new_id()}"
        network.chats.react(number, posted.message_id, posted.customer, posted.emoji or "", key)
        return [key]
    if posted.kind == "call":
        return [network.call(number, posted.chat_id, posted.video, bool(posted.group))]
    messages = compose(posted, file)
    network.chats.add(number, messages, SENT)
    return [message["key"] for message in messages]


def _add_rules(control: Blueprint, network: Network) -> None:
    rules = network.rules

    @control.get("/behaviour")
    def show_rules() -> dict[str, Any]:
        shown = [rule.model_dump(exclude_defaults=True) for rule in rules.all()]
        return {"behaviours": shown, "acks": network.acks.model_dump()}

    @control.post("/behaviour")
    def add_rule() -> dict[str, Any]:
        rules.add(WebRule.model_validate_json(request.get_data() or b"{}"))
        return show_rules()

    @control.delete("/behaviour")
    def delete_rules() -> dict[str, Any]:
        network.clear_rules()
        return show_rules()

    @control.post("/acks")
    def acks() -> dict[str, Any]:
        network.acks = Acks.model_validate_json(request.get_data())
        return network.acks.model_dump()


def _add_states(control: Blueprint, network: Network) -> None:
    def change(selector: PageSelector, **values: Any) -> dict[str, Any]:
        for device in _selected(network, selector):
            network.devices.change(device.id, **values)
        return {"success": True}

    @control.post("/conflict")
    def conflict() -> dict[str, Any]:
        """Open WhatsApp in another window."""
        return change(PageSelector.model_validate(_fields()), boot=ANOTHER_WINDOW)

    @control.post("/update")
    def update() -> dict[str, Any]:
        """Require a newer version of the page, until it is loaded again."""
        return change(PageSelector.model_validate(_fields()), mode="DEPRECATED_VERSION")

    @control.post("/ban")
    def ban() -> dict[str, Any]:
        posted = Mode.model_validate(_fields())
        return change(posted, mode=posted.mode)

    @control.post("/offline")
    def offline() -> dict[str, Any]:
        posted = Offline.model_validate(_fields())
        return change(posted, offline=int(posted.offline))


def _add_page_faults(control: Blueprint, network: Network) -> None:
    def send_update(selector: PageSelector, **body: Any) -> dict[str, Any]:
        for device in _selected(network, selector):
            network.devices.send_update(device.id, **body)
        return {"success": True}

    def inject(kind: str) -> dict[str, Any]:
        posted = PAGE_FAULTS[kind].model_validate(_fields())
        parameters = posted.model_dump(exclude={"number", "device"})
        return send_update(posted, kind="fault", fault={"kind": kind, **parameters})

    for name in PAGE_FAULTS:
        control.add_url_rule(f"/{name}", name, partial(inject, name), methods=["POST"])

    @control.post("/backend")
    def backend() -> dict[str, Any]:
        posted = BackendEvent.model_validate(_fields())
        return send_update(posted, kind="backend", event=posted.event)
