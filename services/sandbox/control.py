"""The simulator's own addresses, below /_sandbox/: what came, and what it is told."""

import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.wrappers import Response

from services.sandbox import page
from services.sandbox.meta import inbound
from services.sandbox.meta.answers import UPLOAD_LIMIT
from services.sandbox.meta.behaviour import Behaviour, Delivery
from services.sandbox.meta.inbound import CustomerMessage, Notice
from services.sandbox.meta.media import INBOUND_LIFE
from services.sandbox.meta.simulator import Simulator
from services.sandbox.meta.store import Filter
from services.sandbox.meta.templates import Template
from services.sandbox.request_fields import GraphError
from services.sandbox.requests import refuse_strangers, sent_fields

PREFIX = "/_sandbox"
#: Messages in one list, at most and by default.
MAX_LIST = 10_000


class Told(BaseModel):
    """Facts about something that has a name; any other fields are the facts."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def facts(self) -> dict[str, Any]:
        """What was told beside the name."""
        return self.model_extra or {}


class ToldNumber(Told):
    """What is posted to /_sandbox/number: any field of the API, or `can_send_message`, `registered`, `exists`, `pin`,
    `account`."""

    phone_number_id: str = Field(min_length=1)


class ToldToken(Told):
    """What is posted to /_sandbox/token: `expires_at`, `is_valid`, `scopes` and other fields of debug_token."""

    token: str = Field(min_length=1)


class Window(BaseModel):
    """What is posted to /_sandbox/window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enforce: bool


class MediaLife(BaseModel):
    """What is posted to /_sandbox/media: how long URLs live from now on, and how long a file still does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_seconds: float | None = Field(None, ge=0)
    media_id: str | None = None
    expires_in: float = Field(0, description="seconds")


def blueprint(simulator: Simulator) -> Blueprint:
    """All of them. None needs a key: they are on loopback, and a browser's pages from elsewhere are refused."""
    control = Blueprint("control", __name__)
    control.before_request(refuse_strangers)
    control.register_error_handler(ValidationError, _invalid)
    control.register_error_handler(GraphError, _wrong)
    for add in (_add_page, _add_lists, _add_behaviour, _add_settings, _add_facts, _add_speech):
        add(control, simulator)
    return control


def _invalid(error: ValidationError) -> tuple[dict[str, Any], int]:
    said = (": ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors())
    return {"success": False, "error": "; ".join(said), "code": "invalid_request"}, 400


def _wrong(error: GraphError) -> tuple[dict[str, Any], int]:
    return {"success": False, "error": error.details, "code": "invalid_request"}, 400


def _add_page(control: Blueprint, simulator: Simulator) -> None:
    @control.get("/")
    def show() -> Response:
        """The page for people."""
        return page.render(request.base_url, simulator, request.args)

    @control.get("/media/<media_id>")
    def media(media_id: str) -> Response:
        """A file, as the customer or the operator looks at it."""
        return page.file(simulator.media, media_id)


def _add_lists(control: Blueprint, simulator: Simulator) -> None:
    store = simulator.store

    @control.get("/messages")
    def messages() -> dict[str, Any]:
        """What came, in its order; `receipts` counts how often each callback data was taken."""
        asked = _filter()
        limit = min(request.args.get("limit", MAX_LIST, type=int), MAX_LIST)
        return {
            "count": store.count(asked), "messages": store.messages(asked, limit), "receipts": store.receipts(asked)
        }  # fmt: skip

    @control.get("/inbound")
    def heard() -> dict[str, Any]:
        """What customers said, the latest first."""
        return {"messages": store.inbound(min(request.args.get("limit", MAX_LIST, type=int), MAX_LIST))}

    @control.post("/reset")
    def reset() -> dict[str, Any]:
        simulator.reset()
        return {"success": True}


def _filter() -> Filter:
    asked = request.args
    accepted = asked.get("accepted")
    return Filter(
        asked.get("phone_number_id"), asked.get("to"), asked.get("text"), asked.get("biz_opaque_callback_data"),
        None if accepted is None else accepted in ("true", "1"), asked.get("after", 0, type=int), asked.get("type"),
    )  # fmt: skip


def _add_behaviour(control: Blueprint, simulator: Simulator) -> None:
    behaviours = simulator.behaviours

    @control.get("/behaviour")
    def behaviour() -> dict[str, Any]:
        return {"behaviours": [rule.model_dump(exclude_defaults=True) for rule in behaviours.all()]}

    @control.post("/behaviour")
    def behave() -> dict[str, Any]:
        behaviours.add(Behaviour.model_validate_json(request.get_data() or b"{}"))
        return behaviour()

    @control.delete("/behaviour")
    def behave_well() -> dict[str, Any]:
        behaviours.clear()
        return behaviour()


def _add_settings(control: Blueprint, simulator: Simulator) -> None:
    behaviours = simulator.behaviours

    @control.post("/window")
    def window() -> dict[str, Any]:
        behaviours.enforce_window = Window.model_validate_json(request.get_data()).enforce
        return {"enforce": behaviours.enforce_window}

    @control.post("/webhooks")
    def webhooks() -> dict[str, Any]:
        behaviours.delivery = Delivery.model_validate_json(request.get_data())
        return behaviours.delivery.model_dump()

    @control.post("/media")
    def media_life() -> dict[str, Any]:
        told = MediaLife.model_validate_json(request.get_data())
        if told.url_seconds is not None:
            simulator.media.url_life = told.url_seconds
        if told.media_id is not None:
            simulator.media.expire(told.media_id, told.expires_in)
        return {"success": True}


def _add_facts(control: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @control.post("/number")
    def number() -> dict[str, Any]:
        told = ToldNumber.model_validate(sent_fields())
        name = registry.number_named(told.phone_number_id)
        registry.tell("number", name, told.facts)
        return simulator.management.number(name) if told.facts.get("exists", True) else {"id": name}

    @control.post("/token")
    def token() -> dict[str, Any]:
        told = ToldToken.model_validate(sent_fields())
        registry.tell("token", told.token, told.facts)
        return simulator.management.debug_token(told.token)

    @control.post("/code")
    def code() -> dict[str, Any]:
        return simulator.management.make_code(sent_fields())

    @control.post("/template")
    def template() -> dict[str, Any]:
        told = Template.model_validate_json(request.get_data())
        registry.tell("template", told.key, told.model_dump())
        return told.described()


def _add_speech(control: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @control.post("/say")
    def say() -> Any:
        """A form gets the page back, JSON and everything else JSON."""
        request.max_content_length = UPLOAD_LIMIT
        fields = sent_fields()
        from_page = fields.pop("page", None) is not None
        if from_page:  # a browser sends what was not filled in as well
            fields = {name: value for name, value in fields.items() if value != ""}
        saying = CustomerMessage.model_validate(fields)
        number = registry.number_named(saying.to)
        said = inbound.compose(saying, number, _file(simulator, saying, number), time.time())
        _tell(simulator, number, lambda: simulator.store.hear(said.messages, said.reports))
        if from_page:
            return redirect(f"{PREFIX}/?{page.speaker(saying)}", 303)
        return {"success": True, "phone_number_id": number, "ids": said.ids}

    @control.post("/notice")
    def notice() -> dict[str, Any]:
        told = Notice.model_validate_json(request.get_data())
        number = registry.number_named(told.to) if told.to else ""
        reports = inbound.announce(told, number, told.account)
        _tell(simulator, number, lambda: simulator.store.hear([], reports), told.account)
        return {"success": True}


def _file(simulator: Simulator, saying: CustomerMessage, number: str) -> Any:
    upload = request.files.get("file")
    if upload is not None and upload.filename:
        return simulator.media.keep(number, upload.stream, upload.mimetype, upload.filename, INBOUND_LIFE)
    return simulator.media.find(saying.media_id) if saying.media_id else None


def _tell(simulator: Simulator, number: str, remember: Callable[[], None], account: str = "") -> None:
    """Raises `GraphError` where nobody asked for the number's webhooks: the message would be lost silently."""
    if simulator.destinations.of(number, account) is None:
        raise GraphError(100, "no webhook is set up for this number: nobody would hear it", 400)
    remember()
    simulator.reporter.wake()
