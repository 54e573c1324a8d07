"""Pydantic models of bots: how one is linked, and how it is shown."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.model import Model
from services.api.schemas.base import CompanyId, PhoneIndex

#: Maximum rate of a number at Meta, in messages a second (Cloud API, "Throughput").
MAX_RATE = 1000

ProviderNumber = Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
Credential = Annotated[str, Field(pattern=r"^[!-~]{1,4096}$", json_schema_extra={"writeOnly": True})]
BotType = Literal["meta_direct", "meta_embedded", "360dialog", "wwebjs"]


class _Shape(Model):
    model_config = ConfigDict(alias_generator=to_camel)


class LinkRequest(_Shape):
    """A number to link, or the changes of a bot."""

    model_config = ConfigDict(extra="forbid")

    company: CompanyId | None = Field(None, description="The company; required with an operator's key.")
    phone_index: PhoneIndex = Field(0, description="The index of the bot within the company.")
    type: BotType | None = Field(None, description="How the number is reached; for a new bot `meta_direct` by default.")
    phone_number_id: ProviderNumber | None = Field(
        None, description="The number's ID in Meta's API. WhatsApp Web numbers have none; 360dialog reports its own."
    )
    waba_id: ProviderNumber | None = Field(
        None, description="The ID of the number's business account; by default Meta is asked for it."
    )
    display_number: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,50}$")] | None = Field(
        None, description="The phone number as people know it; by default Meta is asked for it."
    )
    token: Credential | None = Field(None, repr=False, description="Meta's access token, or 360dialog's API key.")
    code: Credential | None = Field(None, repr=False, description="The embedded signup's code, instead of a token.")
    pin: Annotated[str, Field(pattern=r"^[0-9]{6}$", json_schema_extra={"writeOnly": True})] | None = Field(
        None, repr=False, description="The six digits of the two-step verification, which register the number."
    )
    coexistence: bool = Field(False, description="The number stays in use on a phone, so it is not registered.")
    set_webhook: bool = Field(False, description="Have webhooks sent here, even if the app has another address.")
    verify: bool = Field(True, description="`false`: link without asking the provider. Needs an operator's key.")
    rate: float | None = Field(
        None,
        ge=0,
        le=MAX_RATE,
        allow_inf_nan=False,
        description="Maximum messages a second; 0: the channel's default. To stop a bot, pause it instead.",
    )


class BotQuery(Model):
    """Filters bots."""

    company: CompanyId | None = Field(None, description="Only bots of this company.")


class BotPath(_Shape):
    """The path of a bot."""

    company_id: CompanyId
    phone_index: PhoneIndex


class RemoveQuery(Model):
    """How to remove a bot."""

    force: bool = Field(False, description="Fail the messages that wait for the bot.")


class Held(Model):
    """A hold: the bot sends nothing."""

    until: str = Field(description="When the hold ends by itself; `infinity`: when an operator has acted.")
    reason: str | None


class Paused(Model):
    """A pause: an operator keeps the bot from sending."""

    since: str
    until: str | None = Field(description="When the pause ends by itself; null: when it is resumed.")
    reason: str | None


class Outage(Model):
    """An outage of the bot's provider. Its messages wait, and are sent once it is over."""

    since: str
    code: str = Field(json_schema_extra={"example": "network"})
    reason: str


class Check(Model):
    """The result of the last check."""

    status: Literal["ok", "warning", "error"]
    at: str | None


class ProblemFound(Model):
    """A problem of a bot."""

    level: Literal["warning", "error"]
    code: str = Field(json_schema_extra={"example": "token_expires"})
    text: str
    next: str = Field(description="The next step.")


class BotShape(Model):
    """A bot."""

    companyId: str
    phoneIndex: int
    type: str
    process: str = Field(description="The channel of the bot.")
    status: str
    phoneNumberId: str | None
    wabaId: str | None
    displayNumber: str | None
    rate: float | None = Field(description="Maximum messages a second; null: the default of the channel.")
    waiting: int = Field(description="Number of messages that are not sent yet.")
    held: Held | None
    paused: Paused | None
    outage: Outage | None
    check: Check | None
    problems: list[ProblemFound]


class OneBot(Model):
    """One bot."""

    success: Literal[True]
    bot: BotShape


class BotList(Model):
    """Bots."""

    success: Literal[True]
    bots: list[BotShape]


class Verified(Model):
    """The provider's report when the number was linked."""

    name: str | None
    displayNumber: str | None


class LinkedBot(OneBot):
    """A bot that was linked."""

    verified: Verified | None = Field(description="null: the provider was not asked.")
    next: list[str] = Field(description="The steps that remain.")


class VerifiedBot(OneBot):
    """A bot and the report of its provider."""

    report: dict[str, Any]
    problems: list[ProblemFound]


class Removed(Model):
    """The bot was removed."""

    success: Literal[True]
    failedMessages: int = Field(description="Number of messages that failed because of it.")


def camel(found: dict[str, Any]) -> dict[str, Any]:
    """The same fields with names in camel case."""
    return {to_camel(name): value for name, value in found.items()}
