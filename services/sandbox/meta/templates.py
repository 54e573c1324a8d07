"""Message templates, and the check of messages that use them (Cloud API, "Message templates")."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.meta.registry import Registry
from services.sandbox.meta.request_fields import GraphError, required, required_list, required_object

#: The languages of the built-in templates.
LANGUAGES = ("en", "en_US", "ms")

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MEDIA = ("image", "video", "document", "location")
_PARAMETERS = ("text", "currency", "date_time", *_MEDIA, "payload", "coupon_code", "action")


class Template(BaseModel):
    """A template, as it is posted to /_sandbox/template. Variables are in double braces: {{1}} or {{name}}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=512, pattern="^[a-z0-9_]+$")]
    language: Annotated[str, Field(min_length=2, max_length=10)] = "en"
    body: Annotated[str, Field(max_length=1024)] = ""
    header: Annotated[str, Field(description="a text, or IMAGE, VIDEO, DOCUMENT or LOCATION", max_length=60)] = ""
    buttons: Annotated[list[str], Field(description="texts; one with a variable is a link that ends with it")] = []
    status: Literal["APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"] = "APPROVED"
    category: Literal["UTILITY", "MARKETING", "AUTHENTICATION"] = "UTILITY"

    @property
    def key(self) -> str:
        """The template's id."""
        return f"{self.name}/{self.language}"

    def described(self) -> dict[str, Any]:
        """The template as the API lists it."""
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


_BUILT_IN = (
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
_BY_KEY = {
    template.key: template
    for built_in in _BUILT_IN
    for template in [built_in.model_copy(update={"language": code}) for code in LANGUAGES]
}


def catalogue(registry: Registry) -> list[Template]:
    """All templates: the built-in ones, and those of the registry."""
    registered = {key: Template.model_validate(facts) for key, facts in registry.all("template").items()}
    return list((_BY_KEY | registered).values())


def find(registry: Registry, name: str, language: str) -> Template:
    """A template that can be sent. Raises `GraphError` 132001 if there is none, 132015 or 132016 if it is suspended."""
    key = f"{name}/{language}"
    facts = registry.facts("template", key)
    found = Template.model_validate(facts) if facts else _BY_KEY.get(key)
    if found is None or found.status in ("PENDING", "REJECTED"):
        raise GraphError(132001, f"the template {name} does not exist in {language}")
    if found.status != "APPROVED":
        raise GraphError(132015 if found.status == "PAUSED" else 132016, f"the template {name} is {found.status}")
    return found


def fill(registry: Registry, fields: dict[str, Any]) -> str:
    """Check a message's `template` object and return the text that the recipient sees.

    Raises `GraphError` 132000 if the number of parameters is wrong, 132012 if one has the wrong type, and the errors of
    `find`.
    """
    name, language = required(fields, "name", 512), required_object(fields, "language")
    template = find(registry, name, required(language, "code"))
    components = required_list(fields, "components", 20) if fields.get("components") else []
    header = _filled(_header(template), _parameters(components, "header"), "header")
    body = _filled(template.body, _parameters(components, "body"), "body")
    _check_buttons(template, [component for component in components if _type(component) == "button"])
    return "\n".join(filter(None, (header, body)))


def variables(text: str) -> list[str]:
    """The names of a text's variables, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def _type(component: dict[str, Any]) -> str:
    return required(component, "type").lower()


def _parameters(components: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [component for component in components if _type(component) == kind and component.get("parameters")]
    parameters = [parameter for component in found for parameter in required_list(component, "parameters", 100)]
    for parameter in parameters:
        if required(parameter, "type").lower() not in _PARAMETERS:
            raise GraphError(132012, f"a parameter of the {kind} has the unknown type {parameter['type']}")
    return parameters


def _header(template: Template) -> str:
    """The header's text. A media header is one variable, named like its type."""
    return f"{{{{{template.header.lower()}}}}}" if template.header.lower() in _MEDIA else template.header


def _filled(text: str, parameters: list[dict[str, Any]], component: str) -> str:
    """The text with its variables replaced."""
    names = variables(text)
    if len(names) != len(parameters):
        raise GraphError(132000, f"{component}: got {len(parameters)} parameters, the template has {len(names)}")
    values = dict(zip(names, map(_value, parameters), strict=True))
    if not all(name.isdigit() or name in _MEDIA for name in names):
        values = _by_name(names, parameters, component)
    for name, parameter in zip(names, parameters, strict=True):
        if name in _MEDIA and parameter["type"].lower() != name:
            raise GraphError(132012, f"{component}: the template has a {name}, not a parameter {parameter['type']}")
    return _VARIABLE.sub(lambda match: values[match[1]], text)


def _by_name(names: list[str], parameters: list[dict[str, Any]], component: str) -> dict[str, str]:
    values = {required(parameter, "parameter_name"): _value(parameter) for parameter in parameters}
    if set(values) != set(names):
        raise GraphError(132000, f"{component}: the template's parameters are named {', '.join(names)}")
    return values


def _value(parameter: dict[str, Any]) -> str:
    kind = parameter["type"].lower()
    if kind == "text":
        return required(parameter, "text")
    content = required_object(parameter, kind)
    return str(content.get("fallback_value") or f"[{kind}]")


def _check_buttons(template: Template, buttons: list[dict[str, Any]]) -> None:
    with_variables = {str(index) for index, text in enumerate(template.buttons) if variables(text)}
    indexes = [str(button.get("index", "0")) for button in buttons]
    if missing := with_variables - set(indexes):
        raise GraphError(132000, f"the parameter of the button {min(missing)} is missing")
    if unknown := [index for index in indexes if not index.isdigit() or int(index) >= len(template.buttons)]:
        raise GraphError(132000, f"the template has no button {unknown[0]}")
    for button in buttons:
        required_list(button, "parameters", 10)
