"""The controls of Meta's side, below /_sandbox/: lists of messages, injected faults, facts, messages of customers."""

import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.wrappers import Response

from services.sandbox.control_requests import control_blueprint, refusal, sent_fields, without_empty
from services.sandbox.meta import inbound
from services.sandbox.meta.accounts.templates import Template
from services.sandbox.meta.behaviour import Behaviour, Delivery
from services.sandbox.meta.inbound import CustomerMessage, Notice
from services.sandbox.meta.links import Fetched
from services.sandbox.meta.media import INBOUND_LIFE_SECONDS, File
from services.sandbox.meta.request_fields import GraphError
from services.sandbox.meta.routes import page
from services.sandbox.meta.routes.answers import MAX_UPLOAD_BYTES
from services.sandbox.meta.simulator import Simulator
from services.sandbox.meta.store import Filter

PREFIX = "/_sandbox"
#: Messages in one list, at most and by default.
MAX_LISTED_MESSAGES = 10_000


class NamedFacts(BaseModel):
    """The name of an object, and facts about it: any other fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def facts(self) -> dict[str, Any]:
        """The other fields."""
        return self.model_extra or {}


class NumberFacts(NamedFacts):
    """The body of /_sandbox/number: any field of the API, or `can_send_message`, `registered`, `exists`, `pin`,
    `account`, `shares_history`."""

    phone_number_id: str = Field(min_length=1)


class TokenFacts(NamedFacts):
    """The body of /_sandbox/token: `expires_at`, `is_valid`, `scopes` and other fields of debug_token."""

    token: str = Field(min_length=1)


class CustomerFacts(BaseModel):
    """The body of /_sandbox/customer: the WhatsApp id of a phone number; without it, the usual one again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str = Field(pattern="^[+]?[0-9]+$")
    wa_id: str | None = Field(None, pattern="^[0-9]+$")


class GroupMember(BaseModel):
    """The body of /_sandbox/join: a customer who joins a group by its link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_id: str = Field(min_length=1)
    number: str = Field(pattern="^[+]?[0-9]+$")


class WindowSetting(BaseModel):
    """The body of /_sandbox/window: whether the customer's 24-hour window is enforced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enforce: bool


class MediaSetting(BaseModel):
    """The body of /_sandbox/media: how long new URLs live, when a file expires, and which links are fetched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_seconds: float | None = Field(None, ge=0)
    media_id: str | None = None
    expires_in: float = Field(0, description="seconds")
    fetch_links: Fetched | None = Field(None, description="all, none, or local: those of this machine")


def blueprint(simulator: Simulator) -> Blueprint:
    """All controls of Meta's side."""
    control = control_blueprint("control")
    control.register_error_handler(GraphError, lambda error: refusal(error.details))
    for add in (_add_page, _add_lists, _add_behaviour, _add_settings, _add_facts, _add_inbound):
        add(control, simulator)
    return control


def _add_page(control: Blueprint, simulator: Simulator) -> None:
    @control.get("/")
    def show() -> Response:
        """The page for people."""
        return page.render(request.base_url, simulator, request.args)

    @control.get("/media/<media_id>")
    def media(media_id: str) -> Response:
        """A file that a message on the page shows."""
        return page.file(simulator.media, media_id)


def _add_lists(control: Blueprint, simulator: Simulator) -> None:
    store = simulator.store

    @control.get("/messages")
    def messages() -> dict[str, Any]:
        """Requests of the business in order; `receipts` counts the accepted messages by callback data."""
        which = _filter(simulator)
        return {
            "count": store.count(which),
            "messages": store.messages(which, _limit()),
            "receipts": store.accepted_by_callback_data(which),
        }

    @control.get("/inbound")
    def inbound_messages() -> dict[str, Any]:
        """Messages of customers, the latest first."""
        return {"messages": store.latest_inbound(_limit())}

    @control.post("/reset")
    def reset() -> dict[str, Any]:
        simulator.reset()
        return {"success": True}


def _limit() -> int:
    return min(request.args.get("limit", MAX_LISTED_MESSAGES, type=int), MAX_LISTED_MESSAGES)


def _filter(simulator: Simulator) -> Filter:
    query = request.args
    to = simulator.registry.whatsapp_id(query["to"]) if query.get("to") else None
    accepted = query.get("accepted")
    return Filter(
        query.get("phone_number_id"), to, query.get("text"), query.get("biz_opaque_callback_data"),
        None if accepted is None else accepted in ("true", "1"), query.get("after", 0, type=int), query.get("type"),
    )  # fmt: skip


def _add_behaviour(control: Blueprint, simulator: Simulator) -> None:
    rules = simulator.behaviours.rules

    @control.get("/behaviour")
    def show_rules() -> dict[str, Any]:
        return {"behaviours": [rule.model_dump(exclude_defaults=True) for rule in rules.all()]}

    @control.post("/behaviour")
    def add_rule() -> dict[str, Any]:
        rules.add(Behaviour.model_validate_json(request.get_data() or b"{}"))
        return show_rules()

    @control.delete("/behaviour")
    def delete_rules() -> dict[str, Any]:
        simulator.behaviours.clear()
        return show_rules()


def _add_settings(control: Blueprint, simulator: Simulator) -> None:
    behaviours = simulator.behaviours

    @control.post("/window")
    def window() -> dict[str, Any]:
        behaviours.enforce_window = WindowSetting.model_validate_json(request.get_data()).enforce
        return {"enforce": behaviours.enforce_window}

    @control.post("/webhooks")
    def webhooks() -> dict[str, Any]:
        behaviours.delivery = Delivery.model_validate_json(request.get_data())
        return behaviours.delivery.model_dump()

    @control.post("/media")
    def media_setting() -> dict[str, Any]:
        setting = MediaSetting.model_validate_json(request.get_data())
        if setting.url_seconds is not None:
            simulator.media.url_life_seconds = setting.url_seconds
        if setting.media_id is not None:
            simulator.media.expire(setting.media_id, setting.expires_in)
        if setting.fetch_links is not None:
            simulator.links.fetched = setting.fetch_links
        return {"success": True}


def _add_facts(control: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @control.post("/number")
    def number() -> dict[str, Any]:
        posted = NumberFacts.model_validate(sent_fields())
        name = registry.resolve_number(posted.phone_number_id)
        registry.update("number", name, posted.facts)
        return simulator.management.number(name) if posted.facts.get("exists", True) else {"id": name}

    @control.post("/customer")
    def customer() -> dict[str, Any]:
        posted = CustomerFacts.model_validate_json(request.get_data())
        digits = posted.number.lstrip("+")
        registry.update("customer", digits, {"wa_id": posted.wa_id})
        return {"number": digits, "wa_id": registry.whatsapp_id(digits)}

    @control.post("/join")
    def join() -> dict[str, Any]:
        posted = GroupMember.model_validate_json(request.get_data())
        return simulator.groups.join(posted.group_id, registry.whatsapp_id(posted.number.lstrip("+")))

    @control.post("/token")
    def token() -> dict[str, Any]:
        posted = TokenFacts.model_validate(sent_fields())
        registry.update("token", posted.token, posted.facts)
        return simulator.management.debug_token(posted.token)

    @control.post("/code")
    def code() -> dict[str, Any]:
        return simulator.management.make_code(sent_fields())

    @control.post("/template")
    def template() -> dict[str, Any]:
        posted = Template.model_validate_json(request.get_data())
        registry.update("template", posted.key, posted.model_dump())
        return posted.described()


def _add_inbound(control: Blueprint, simulator: Simulator) -> None:
    registry = simulator.registry

    @control.post("/say")
    def say() -> Any:
        """Send a message as a customer. The page's form gets the page back, everything else JSON."""
        request.max_content_length = MAX_UPLOAD_BYTES
        fields = sent_fields()
        from_page = fields.pop("page", None) is not None
        posted = CustomerMessage.model_validate(without_empty(fields) if from_page else fields)
        number = registry.resolve_number(posted.to)
        sender = posted.model_copy(update={"sender": registry.whatsapp_id(posted.sender.lstrip("+"))})
        if simulator.block_lists.is_blocked(number, sender.chat):
            return refusal("the number has blocked this customer, who cannot write to it", "blocked", 403)
        file = _file(simulator, posted, number)
        composed = inbound.compose(sender, registry.metadata(number), file, time.time())
        _publish(simulator, number, lambda: simulator.store.add_inbound(composed.messages, composed.updates))
        if from_page:
            return redirect(f"{PREFIX}/?{page.speaker_query(posted)}", 303)
        return {"success": True, "phone_number_id": number, "ids": composed.ids}

    @control.post("/notice")
    def notice() -> dict[str, Any]:
        posted = Notice.model_validate_json(request.get_data())
        number = registry.resolve_number(posted.to) if posted.to else ""
        updates = inbound.notice_updates(posted, number, registry.phone_number(number), posted.account)
        _publish(simulator, number, lambda: simulator.store.add_inbound([], updates), posted.account)
        return {"success": True}


def _file(simulator: Simulator, posted: CustomerMessage, number: str) -> File | None:
    upload = request.files.get("file")
    if upload is not None and upload.filename:
        return simulator.media.keep(number, upload.stream, upload.mimetype, upload.filename, INBOUND_LIFE_SECONDS)
    return simulator.media.find(posted.media_id) if posted.media_id else None


def _publish(simulator: Simulator, number: str, store: Callable[[], None], account: str = "") -> None:
    """Store updates and have them delivered. Raises `GraphError` if no webhook is set up, so that none is lost."""
    if simulator.destinations.find(number, account) is None:
        raise GraphError(100, "no webhook is set up for this number: nobody would receive it", 400)
    store()
    simulator.webhook_sender.wake()
