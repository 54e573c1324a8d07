"""The message templates that the simulator knows, and whether a message fills one in as it must (Cloud API, "Message
templates")."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.meta.registry import Registry
from services.sandbox.request_fields import GraphError, required, required_list, required_object

#: The languages of the templates that are always there.
LANGUAGES = ("en", "en_US", "ms")

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MEDIA = ("image", "video", "document", "location")
_PARAMETERS = ("text", "currency", "date_time", *_MEDIA, "payload", "coupon_code", "action")


class Template(BaseModel):
    """A template, as it is posted to /_sandbox/template. Variables stand in double braces: {{1}} or {{name}}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=512, pattern="^[a-z0-9_]+$")]
    language: Annotated[str, Field(min_length=2, max_length=10)] = "en"
    body: Annotated[str, Field(max_length=1024)] = ""
    header: Annotated[str, Field(description="a text, or one of IMAGE, VIDEO, DOCUMENT, LOCATION", max_length=60)] = ""
    buttons: Annotated[list[str], Field(description="texts; one with a variable is a link that ends with it")] = []
    status: Literal["APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"] = "APPROVED"
    category: Literal["UTILITY", "MARKETING", "AUTHENTICATION"] = "UTILITY"

    @property
    def key(self) -> str:
        """What it is known by."""
        return f"{self.name}/{self.language}"

    def described(self) -> dict[str, Any]:
        """As the API lists it."""
        components: list[dict[str, Any]] = [{"type": "BODY", "text": self.body}]
        if self.header:
            media = self.header.lower() in _MEDIA
            shape = {"format": self.header} if media else {"format": "TEXT", "text": self.header}
            components.insert(0, {"type": "HEADER", **shape})
        if self.buttons:
            buttons = [{"type": "URL" if variables(text) else "QUICK_REPLY", "text": text} for text in self.buttons]
            components.append({"type": "BUTTONS", "buttons": buttons})
        facts = {"id": self.key, "name": self.name, "language": self.language, "status": self.status}
        return facts | {"category": self.category, "components": components}


_TEXTS = (
    Template(name="hello_world", header="Hello World", body="Welcome, and thank you for writing to us."),
    Template(name="order_update", body="Hello {{1}}, your order {{2}} is on its way."),
    Template(name="appointment_reminder", body="Dear {{1}}, we expect you on {{2}} at {{3}}.",
             buttons=["Confirm", "Another day"]),
    Template(name="invoice", header="DOCUMENT", body="Dear {{1}}, this is your invoice over {{2}}."),
    Template(name="special_offer", header="IMAGE", body="Only this week, {{first_name}}: {{offer}}.",
             category="MARKETING"),
    Template(name="verification_code", body="{{1}} is your code.", buttons=["Copy {{1}}"], category="AUTHENTICATION"),
    Template(name="paused_template", body="This one is paused.", status="PAUSED"),
)  # fmt: skip
_DEFAULT = {
    each.key: each for text in _TEXTS for each in [text.model_copy(update={"language": code}) for code in LANGUAGES]
}


def catalogue(registry: Registry) -> list[Template]:
    """All templates: those that are always there, and what was told."""
    told = {key: Template.model_validate(facts) for key, facts in registry.all("template").items()}
    return list((_DEFAULT | told).values())


def find(registry: Registry, name: str, language: str) -> Template:
    """A template that may be sent. Raises `GraphError` 132001 where there is none, 132015 or 132016 where it rests."""
    key = f"{name}/{language}"
    told = registry.facts("template", key)
    found = Template.model_validate(told) if told else _DEFAULT.get(key)
    if found is None or found.status in ("PENDING", "REJECTED"):
        raise GraphError(132001, f"the template {name} does not exist in {language}")
    if found.status != "APPROVED":
        raise GraphError(132015 if found.status == "PAUSED" else 132016, f"the template {name} is {found.status}")
    return found


def fill(registry: Registry, fields: dict[str, Any]) -> str:
    """Check a message's `template` object and return the text that the recipient sees.

    Raises `GraphError` 132000 where the number of parameters is not the template's, 132012 where one is of another
    form, and those of `find`.
    """
    name, language = required(fields, "name", 512), required_object(fields, "language")
    template = find(registry, name, required(language, "code"))
    components = required_list(fields, "components", 20) if fields.get("components") else []
    header = _texts(_header(template), _parameters(components, "header"), "header")
    body = _texts(template.body, _parameters(components, "body"), "body")
    _check_buttons(template, [each for each in components if _type(each) == "button"])
    return "\n".join(filter(None, (header, body)))


def variables(text: str) -> list[str]:
    """The variables of a text, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def _type(component: dict[str, Any]) -> str:
    return required(component, "type").lower()


def _parameters(components: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    given = [each for each in components if _type(each) == kind]
    found = [each for part in given if part.get("parameters") for each in required_list(part, "parameters", 100)]
    for each in found:
        if required(each, "type").lower() not in _PARAMETERS:
            raise GraphError(132012, f"a parameter of the {kind} has the unknown type {each['type']}")
    return found


def _header(template: Template) -> str:
    """The header's text; a header of media has one variable of its own."""
    return f"{{{{{template.header.lower()}}}}}" if template.header.lower() in _MEDIA else template.header


def _texts(text: str, given: list[dict[str, Any]], where: str) -> str:
    wanted = variables(text)
    if len(wanted) != len(given):
        raise GraphError(132000, f"{where}: {len(given)} parameters were given, the template has {len(wanted)}")
    values = dict(zip(wanted, map(_value, given), strict=True))
    if not all(name.isdigit() or name in _MEDIA for name in wanted):
        values = _named(wanted, given, where)
    for name, each in zip(wanted, given, strict=True):
        if name in _MEDIA and each["type"].lower() != name:
            raise GraphError(132012, f"{where}: the template has a {name}, not a parameter of type {each['type']}")
    return _VARIABLE.sub(lambda match: values[match[1]], text)


def _named(wanted: list[str], given: list[dict[str, Any]], where: str) -> dict[str, str]:
    values = {required(each, "parameter_name"): _value(each) for each in given}
    if set(values) != set(wanted):
        raise GraphError(132000, f"{where}: the template's parameters are named {', '.join(wanted)}")
    return values


def _value(parameter: dict[str, Any]) -> str:
    kind = parameter["type"].lower()
    if kind == "text":
        return required(parameter, "text")
    shown = required_object(parameter, kind)
    return str(shown.get("fallback_value") or f"[{kind}]")


def _check_buttons(template: Template, given: list[dict[str, Any]]) -> None:
    wanted = {str(index) for index, text in enumerate(template.buttons) if variables(text)}
    indexes = [str(each.get("index", "0")) for each in given]
    if missing := wanted - set(indexes):
        raise GraphError(132000, f"the button {min(missing)} needs its parameter")
    if odd := [each for each in indexes if not each.isdigit() or int(each) >= len(template.buttons)]:
        raise GraphError(132000, f"the template has no button {odd[0]}")
    for each in given:
        required_list(each, "parameters", 10)
