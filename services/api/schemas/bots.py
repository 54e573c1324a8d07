"""The shapes of numbers: what is asked to be linked, and how a number is shown."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.schemas.base import CompanyId, PhoneIndex

#: Messages a second that Meta lets a number send and receive, at most ("Throughput").
MAX_RATE = 1000

ProviderNumber = Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
Credential = Annotated[str, Field(pattern=r"^[!-~]{1,4096}$", json_schema_extra={"writeOnly": True})]
BotType = Literal["meta_direct", "meta_embedded", "360dialog", "wwebjs"]


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class LinkRequest(_Shape):
    """What is to be linked, or changed."""

    company: CompanyId | None = Field(None, description="The company, where an operator's key is used.")
    phone_index: PhoneIndex = Field(0, description="Which of the company's numbers it is.")
    type: BotType | None = Field(None, description="How the number is reached; a new one: `meta_direct`.")
    phone_number_id: ProviderNumber | None = Field(
        None, description="The number's id in Meta's API. WhatsApp Web numbers have none, 360dialog tells its own."
    )
    waba_id: ProviderNumber | None = Field(
        None, description="The id of the business account that the number is in; left out, Meta is asked for it."
    )
    display_number: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,50}$")] | None = Field(
        None, description="How people know the number; Meta tells it otherwise."
    )
    token: Credential | None = Field(None, repr=False, description="Meta's access token, or 360dialog's API key.")
    code: Credential | None = Field(None, repr=False, description="Of the embedded signup, instead of a token.")
    pin: Annotated[str, Field(pattern=r"^[0-9]{6}$", json_schema_extra={"writeOnly": True})] | None = Field(
        None, repr=False, description="Six digits of the two-step verification, to register the number with."
    )
    coexistence: bool = Field(False, description="The number stays in use on a phone: it is not registered.")
    set_webhook: bool = Field(False, description="Have webhooks sent to our address, whatever the app's is.")
    verify: bool = Field(True, description="`false`: nobody is asked. Needs an operator's key.")
    rate: float | None = Field(
        None, ge=0, le=MAX_RATE, allow_inf_nan=False, description="Messages a second, at most; 0: the usual."
    )


class BotQuery(BaseModel):
    """Whose numbers."""

    company: CompanyId | None = Field(None, description="Only those of this company.")


class BotPath(_Shape):
    """One number."""

    company_id: CompanyId
    phone_index: PhoneIndex


class RemoveQuery(BaseModel):
    """How to remove it."""

    force: bool = Field(False, description="Give up the messages that wait for it.")


class Held(BaseModel):
    """Why a number sends nothing."""

    until: str = Field(description="When it goes on by itself; `infinity`: once somebody acts.")
    reason: str | None


class Outage(BaseModel):
    """The number's provider cannot be reached, or serves nobody: its messages wait, and leave by themselves."""

    since: str
    code: str = Field(json_schema_extra={"example": "network"})
    reason: str


class Check(BaseModel):
    """What the last check found as a whole."""

    status: Literal["ok", "warning", "error"]
    at: str | None


class ProblemFound(BaseModel):
    """One thing that is wrong with a number."""

    level: Literal["warning", "error"]
    code: str = Field(json_schema_extra={"example": "token_expires"})
    text: str
    next: str = Field(description="What to do.")


class BotShape(BaseModel):
    """A number."""

    companyId: str
    phoneIndex: int
    type: str
    process: str = Field(description="The process that serves it.")
    status: str
    phoneNumberId: str | None
    wabaId: str | None
    displayNumber: str | None
    rate: float | None = Field(description="Messages a second, at most; null: the usual.")
    waiting: int = Field(description="Messages that are not sent yet.")
    held: Held | None
    outage: Outage | None
    check: Check | None
    problems: list[ProblemFound]


class OneBot(BaseModel):
    """One number."""

    success: Literal[True]
    bot: BotShape


class BotList(BaseModel):
    """Numbers."""

    success: Literal[True]
    bots: list[BotShape]


class Verified(BaseModel):
    """What the provider said when the number was linked."""

    name: str | None
    displayNumber: str | None


class LinkedBot(OneBot):
    """A number that was linked."""

    verified: Verified | None = Field(description="null: nobody was asked.")
    next: list[str] = Field(description="What is left to do.")


class VerifiedBot(OneBot):
    """A number and what its provider says of it."""

    report: dict[str, Any]
    problems: list[ProblemFound]


class Removed(BaseModel):
    """The number is gone."""

    success: Literal[True]
    failedMessages: int = Field(description="Messages that were given up with it.")


def camel(found: dict[str, Any]) -> dict[str, Any]:
    """The same with names in camel case."""
    return {to_camel(name): value for name, value in found.items()}
