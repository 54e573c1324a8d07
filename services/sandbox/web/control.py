"""What the simulated WhatsApp Web is told, below /_sandbox/wa/: links, words, and all that goes wrong."""

import time
from functools import partial
from typing import Any, Literal

from flask import Blueprint, redirect, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from werkzeug.wrappers import Response

from services.sandbox.requests import refuse_strangers, sent_fields
from services.sandbox.web import view
from services.sandbox.web.chats import PLAYED, SENT, new_id
from services.sandbox.web.customer_message import CustomerMessage, compose
from services.sandbox.web.devices import ELSEWHERE, GONE_AFTER, Device, Unknown
from services.sandbox.web.network import Network
from services.sandbox.web.page_routes import UPLOAD_LIMIT
from services.sandbox.web.rules import Acks, Rule

PREFIX = "/_sandbox/wa"
#: Messages in one list, at most and by default.
MAX_LIST = 10_000


class Told(BaseModel):
    """What is posted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scan(Told):
    """A phone scans a QR code: the one that is shown, or the one given as it is written or by its device; or it types
    in a pairing code."""

    number: str = Field("", pattern="^([0-9]{5,15})?$")
    qr: str = ""
    device: str = ""
    code: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> "Scan":
        if not self.number and not self.code:
            raise ValueError("say which `number` scans, or give the pairing `code`")
        return self


class Ack(Told):
    """WhatsApp's server acknowledges: 1 sent; or the customer's phone does: 2 delivered, 3 read, 4 played."""

    number: str
    key: str
    ack: int = Field(ge=SENT, le=PLAYED)


class Which(Told):
    """The pages of a linked number, or that of a device."""

    number: str = ""
    device: str = ""


class Logout(Which):
    """The phone logs the device out."""

    reason: str = "user_initiated"


class Mode(Which):
    """Such as TOS_BLOCK (banned), SMB_TOS_BLOCK, PROXYBLOCK; MAIN ends it."""

    mode: Literal["TOS_BLOCK", "SMB_TOS_BLOCK", "PROXYBLOCK", "DEPRECATED_VERSION", "MAIN"] = "TOS_BLOCK"


class Offline(Which):
    """The network is away from the page, or back."""

    offline: bool = True


class Hang(Which):
    """The page stops answering: for ever, or so many milliseconds."""

    milliseconds: int = Field(0, ge=0)


class Leak(Which):
    """The page takes so much memory and keeps it."""

    mb_per_second: float = Field(50, gt=0, le=1000)
    limit_mb: float = Field(2000, gt=0)


#: What a page itself does, and what is posted to the address of that name.
MISBEHAVIOUR: dict[str, type[Which]] = {"hang": Hang, "crash": Which, "leak": Leak, "reload": Which}


class Backend(Which):
    """WhatsApp's servers say something, such as account_temporarily_banned."""

    event: str = "account_temporarily_banned"


class Presence(Told):
    """A customer is composing, recording, available or unavailable."""

    number: str
    chat: str
    state: Literal["composing", "recording", "available", "unavailable"] = "composing"


class Absent(Told):
    """Whether a number is not on WhatsApp."""

    number: str
    absent: bool = True


def blueprint(network: Network) -> Blueprint:
    """All of them. None needs a key: they are on loopback, and a browser's pages from elsewhere are refused."""
    control = Blueprint("wa-control", __name__)
    control.before_request(refuse_strangers)
    control.after_request(_show_again)
    control.register_error_handler(ValidationError, _invalid)
    control.register_error_handler(Unknown, _unknown)
    for add in (_add_page, _add_lists, _add_links, _add_speech, _add_behaviour, _add_troubles, _add_misbehaviour):
        add(control, network)
    return control


def _invalid(error: ValidationError) -> tuple[dict[str, Any], int]:
    said = (": ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors())
    return {"success": False, "error": "; ".join(said), "code": "invalid_request"}, 400


def _unknown(error: Unknown) -> tuple[dict[str, Any], int]:
    return {"success": False, "error": str(error), "code": "unknown"}, 409


def _fields() -> dict[str, Any]:
    """What was posted; a browser sends what was not filled in as well."""
    found = sent_fields()
    if found.pop("page", None) is None:
        return found
    return {name: value for name, value in found.items() if value != ""}


def _show_again(response: Response) -> Response:
    """A form of the page gets the page back."""
    if response.status_code == 200 and "page" in request.form:
        return redirect(f"{PREFIX}/", 303)
    return response


def _add_page(control: Blueprint, network: Network) -> None:
    @control.get("/")
    def show() -> Response:
        """The page for people."""
        network.chats.settle()
        devices = [_described(each) for each in network.devices.all()]
        return view.render(network, [each for each in devices if each["linked"] or each["open"]], request.base_url)


def _add_lists(control: Blueprint, network: Network) -> None:
    @control.get("/state")
    def state() -> dict[str, Any]:
        """The devices, and what each of them is doing."""
        return {"devices": [_described(each) for each in network.devices.all()]}

    @control.get("/messages")
    def messages() -> dict[str, Any]:
        """The messages of both sides in the order of their arrival; `arrivals` counts how often a page sent each."""
        network.chats.settle()
        asked = request.args
        limit = min(asked.get("limit", MAX_LIST, type=int), MAX_LIST)
        found = network.chats.found(asked.get("number"), asked.get("text"), asked.get("after", 0, type=int), limit)
        return {"messages": found, "doubles": [each["key"] for each in found if each["arrivals"] > 1]}

    @control.get("/actions")
    def actions() -> dict[str, Any]:
        """What pages did besides sending: edit, revoke, forget, react, seen, typing, exists."""
        return {"actions": network.chats.actions(request.args.get("number"))}

    @control.post("/reset")
    def reset() -> dict[str, Any]:
        network.reset()
        return {"success": True}


def _described(device: Device) -> dict[str, Any]:
    shown = {name: getattr(device, name) for name in ("id", "number", "mode", "version")}
    return shown | {
        "linked": bool(device.number), "ref": device.ref, "code": device.code, "offline": bool(device.offline),
        "conflict": device.boot == ELSEWHERE, "open": device.seen > time.time() - GONE_AFTER,
    }  # fmt: skip


def _add_links(control: Blueprint, network: Network) -> None:
    devices = network.devices

    @control.post("/scan")
    def scan() -> dict[str, Any]:
        told = Scan.model_validate(_fields())
        return _described(devices.pair(told.code) if told.code else devices.scan(told.number, told.qr, told.device))

    @control.post("/logout")
    def logout() -> dict[str, Any]:
        told = Logout.model_validate(_fields())
        for each in _meant(network, told):
            devices.unlink(each.id, told.reason)
        return {"success": True}

    @control.post("/absent")
    def absent() -> dict[str, Any]:
        told = Absent.model_validate(_fields())
        network.set_absent(told.number, told.absent)
        return {"success": True}


def _meant(network: Network, told: Which) -> list[Device]:
    return [network.devices.find(told.device)] if told.device else network.devices.of_number(told.number)


def _add_speech(control: Blueprint, network: Network) -> None:
    @control.post("/say")
    def say() -> dict[str, Any]:
        request.max_content_length = UPLOAD_LIMIT
        saying = CustomerMessage.model_validate(_fields())
        number = saying.to or _only_number(network)
        upload = request.files.get("file")
        file = network.files.keep(upload.stream, upload.mimetype, upload.filename) if upload else None
        return {"success": True, "number": number, "ids": speak(network, number, saying, file)}

    @control.post("/presence")
    def presence() -> dict[str, Any]:
        told = Presence.model_validate(_fields())
        network.announce(told.number, kind="presence", chat=told.chat, state=told.state)
        return {"success": True}

    @control.post("/ack")
    def ack() -> dict[str, Any]:
        told = Ack.model_validate(_fields())
        network.chats.acknowledge(told.number, told.key, told.ack)
        return {"success": True}


def _only_number(network: Network) -> str:
    numbers = {each.number for each in network.devices.all() if each.number}
    if len(numbers) != 1:
        raise Unknown("several numbers are linked: name one with `to`" if numbers else "no number is linked yet")
    return numbers.pop()


def speak(network: Network, number: str, saying: CustomerMessage, file: dict[str, Any] | None) -> list[str]:
    """Say something to a number; returns the keys of the messages."""
    sender = None if saying.echo else saying.customer
    if saying.kind in ("edit", "revoke"):
        values = {"body": saying.text} if saying.kind == "edit" else {}
        return [network.change(number, saying.kind, saying.message_id, sender, **values)["key"]]
    if saying.kind == "reaction":
        key = f"false_{saying.place}_{new_id()}"
        network.chats.react(number, saying.message_id, saying.customer, saying.emoji or "", key)
        return [key]
    if saying.kind == "call":
        return [network.ring(number, saying.place, saying.video, bool(saying.group))]
    messages = compose(saying, file)
    network.chats.add(number, messages, SENT)
    return [each["key"] for each in messages]


def _add_behaviour(control: Blueprint, network: Network) -> None:
    rules = network.rules

    @control.get("/behaviour")
    def behaviour() -> dict[str, Any]:
        shown = [rule.model_dump(exclude_defaults=True) for rule in rules.all()]
        return {"behaviours": shown, "acks": rules.acks.model_dump()}

    @control.post("/behaviour")
    def behave() -> dict[str, Any]:
        rules.add(Rule.model_validate_json(request.get_data() or b"{}"))
        return behaviour()

    @control.delete("/behaviour")
    def behave_well() -> dict[str, Any]:
        rules.clear()
        return behaviour()

    @control.post("/acks")
    def acks() -> dict[str, Any]:
        rules.acks = Acks.model_validate_json(request.get_data())
        return rules.acks.model_dump()


def _add_troubles(control: Blueprint, network: Network) -> None:
    def change(told: Which, **values: Any) -> dict[str, Any]:
        for each in _meant(network, told):
            network.devices.change(each.id, **values)
        return {"success": True}

    @control.post("/conflict")
    def conflict() -> dict[str, Any]:
        """WhatsApp is opened in another window."""
        return change(Which.model_validate(_fields()), boot=ELSEWHERE)

    @control.post("/update")
    def update() -> dict[str, Any]:
        """The page is too old, until it is loaded again."""
        return change(Which.model_validate(_fields()), mode="DEPRECATED_VERSION")

    @control.post("/ban")
    def ban() -> dict[str, Any]:
        told = Mode.model_validate(_fields())
        return change(told, mode=told.mode)

    @control.post("/offline")
    def offline() -> dict[str, Any]:
        told = Offline.model_validate(_fields())
        return change(told, offline=int(told.offline))


def _add_misbehaviour(control: Blueprint, network: Network) -> None:
    def tell(told: Which, **news: Any) -> dict[str, Any]:
        for each in _meant(network, told):
            network.devices.tell(each.id, **news)
        return {"success": True}

    def misbehave(kind: str) -> dict[str, Any]:
        told = MISBEHAVIOUR[kind].model_validate(_fields())
        return tell(told, kind="misbehave", how={"kind": kind, **told.model_dump(exclude={"number", "device"})})

    for name in MISBEHAVIOUR:
        control.add_url_rule(f"/{name}", name, partial(misbehave, name), methods=["POST"])

    @control.post("/backend")
    def backend() -> dict[str, Any]:
        told = Backend.model_validate(_fields())
        return tell(told, kind="backend", event=told.event)
