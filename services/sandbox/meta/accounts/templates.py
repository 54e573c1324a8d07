"""Message templates, and the check of messages that use them (Cloud API, "Message templates")."""

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.meta.registry import Registry
from services.sandbox.meta.request_fields import GraphError

#: The languages of the built-in templates.
LANGUAGES = ("en", "en_US", "ms")

#: The headers that are no text.
MEDIA_HEADERS = ("IMAGE", "VIDEO", "DOCUMENT", "LOCATION")

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


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
        """Names the template in the registry."""
        return f"{self.name}/{self.language}"

    @property
    def id(self) -> str:
        """The template's id, always the same for a name and a language."""
        return f"77{int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 10**13:013d}"

    @property
    def is_named(self) -> bool:
        """Whether its variables have names instead of numbers."""
        return not all(name.isdigit() for name in variables(f"{self.header} {self.body}"))

    def described(self) -> dict[str, Any]:
        """All fields of the template."""
        facts = {"id": self.id, "name": self.name, "language": self.language, "status": self.status}
        return facts | {
            "category": self.category,
            "parameter_format": "NAMED" if self.is_named else "POSITIONAL",
            "components": self._components(),
        }

    def _components(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self.header in MEDIA_HEADERS:
            found.append({"type": "HEADER", "format": self.header})
        elif self.header:
            found.append({"type": "HEADER", "format": "TEXT", **self._text("header", self.header)})
        found.append({"type": "BODY", **self._text("body", self.body)})
        if self.buttons:
            buttons = [{"type": "URL" if variables(text) else "QUICK_REPLY", "text": text} for text in self.buttons]
            found.append({"type": "BUTTONS", "buttons": buttons})
        return found

    def _text(self, component: str, text: str) -> dict[str, Any]:
        """A text with examples of its variables, as the API requires them."""
        names = variables(text)
        if not names:
            return {"text": text}
        if self.is_named:
            examples: list[Any] = [{"param_name": name, "example": name} for name in names]
            return {"text": text, "example": {f"{component}_text_named_params": examples}}
        examples = [f"example {name}" for name in names]
        return {"text": text, "example": {f"{component}_text": [examples] if component == "body" else examples}}


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


def with_id(registry: Registry, template_id: str) -> Template | None:
    """The template with this id."""
    return next((template for template in catalogue(registry) if template.id == template_id), None)


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


def variables(text: str) -> list[str]:
    """The names of a text's variables, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def replaced(text: str, values: dict[str, str]) -> str:
    """The text with its variables replaced."""
    return _VARIABLE.sub(lambda match: values[match[1]], text)
