"""The shapes of WhatsApp Web sessions: how one is shown, and how it is linked."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.schemas.base import CompanyId, PhoneIndex, example

_TIME = "2025-01-31T08:00:00.125+00:00"

State = Literal["STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED"]


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class SessionQuery(BaseModel):
    """Whose sessions."""

    company: CompanyId | None = Field(None, description="Only those of this company.")


class SessionPath(_Shape):
    """One session."""

    company_id: CompanyId
    phone_index: PhoneIndex


class QrQuery(BaseModel):
    """How the QR code is wanted."""

    format: Literal["svg", "png", "text", "json"] | None = Field(
        None, description="Without it, what `Accept` prefers; JSON where it does not say."
    )


class PairingRequest(_Shape):
    """Which phone is to be linked."""

    phone_number: Annotated[str, Field(pattern=r"^\+?[0-9]{7,15}$")] = Field(
        description="The phone's number in international form.", json_schema_extra=example("60123456789")
    )


class BlockShape(BaseModel):
    """Why a session is not started."""

    kind: str = Field(description="`failed_starts`, `logged_out`, `conflict`, `banned`, `wrong_number` or `operator`.")
    reason: str
    since: str = Field(json_schema_extra=example(_TIME))
    until: str | None = Field(description="null: until an operator unblocks it.", json_schema_extra=example(_TIME))


class SessionShape(BaseModel):
    """A session."""

    companyId: str
    phoneIndex: int
    name: str = Field(json_schema_extra=example("0128-0"))
    status: State
    reason: str | None = Field(description="Why it is so, or what is wrong with it.")
    wanted: bool = Field(description="Whether it is to run: `start` and `stop` say so.")
    number: str | None = Field(description="Digits of the number that it is linked to.")
    changedAt: str | None = Field(description="When it took this status.", json_schema_extra=example(_TIME))
    lastBeat: str | None = Field(
        description="When its page last proved that it answers and is connected.", json_schema_extra=example(_TIME)
    )
    memoryMb: float | None = Field(description="Of the process and its browser, proportional (PSS).")
    versions: dict[str, Any] = Field(json_schema_extra=example({"waJs": "4.6.1"}))
    block: BlockShape | None


class OneSession(BaseModel):
    """One session."""

    success: Literal[True]
    session: SessionShape


class SessionList(BaseModel):
    """Sessions."""

    success: Literal[True]
    sessions: list[SessionShape]


class QrCode(BaseModel):
    """What is to be scanned. It is a credential: whoever scans it links their phone."""

    success: Literal[True]
    qr: str = Field(description="The text of the QR code.")
    expiresAt: str | None = Field(description="When the next one takes its place.", json_schema_extra=example(_TIME))


class PairingCode(BaseModel):
    """What is to be typed into the phone."""

    success: Literal[True]
    code: str = Field(json_schema_extra=example("ABCD-EFGH"))
    expiresAt: str | None = Field(json_schema_extra=example(_TIME))


class Found(BaseModel):
    """Something that is needed of the page."""

    name: str = Field(json_schema_extra=example("WPP.chat.sendTextMessage"))
    ok: bool
    detail: str = Field(description="What is there, or what is wrong; may be empty.")


class Examination(BaseModel):
    """What a session's page has."""

    success: Literal[True]
    findings: list[Found]
