"""Pydantic models of WhatsApp Web sessions."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.model import Model
from services.api.schemas.base import CompanyId, PhoneIndex, example

_TIME = "2025-01-31T08:00:00.125+00:00"

State = Literal["STOPPED", "STARTING", "SCAN_QR_CODE", "WORKING", "FAILED"]


class _Shape(Model):
    model_config = ConfigDict(alias_generator=to_camel)


class SessionQuery(Model):
    """Filters sessions."""

    company: CompanyId | None = Field(None, description="Only sessions of this company.")


class SessionPath(_Shape):
    """The path of a session."""

    company_id: CompanyId
    phone_index: PhoneIndex


class QrQuery(Model):
    """The format of the QR code."""

    format: Literal["svg", "png", "text", "json"] | None = Field(
        None, description="By default the type that the header `Accept` prefers, otherwise JSON."
    )


class PairingRequest(_Shape):
    """The phone to link."""

    model_config = ConfigDict(extra="forbid")

    phone_number: Annotated[str, Field(pattern=r"^\+?[0-9]{7,15}$")] = Field(
        description="The phone's number in international form.", json_schema_extra=example("60123456789")
    )


class BlockShape(Model):
    """A block, which keeps the session from starting."""

    kind: str = Field(description="`failed_starts`, `logged_out`, `conflict`, `banned`, `wrong_number` or `operator`.")
    reason: str
    since: str = Field(json_schema_extra=example(_TIME))
    until: str | None = Field(
        description="null: an operator must unblock the session.", json_schema_extra=example(_TIME)
    )


class SessionShape(Model):
    """A session."""

    companyId: str
    phoneIndex: int
    name: str = Field(json_schema_extra=example("0128-0"))
    status: State
    reason: str | None = Field(description="The reason of the status, or a problem of the session.")
    wanted: bool = Field(description="Whether the session should run; `start` and `stop` change it.")
    number: str | None = Field(description="The phone number that it is linked to, in digits.")
    changedAt: str | None = Field(description="When it reached this status.", json_schema_extra=example(_TIME))
    lastBeat: str | None = Field(
        description="When its page last answered and was connected.", json_schema_extra=example(_TIME)
    )
    memoryMb: float | None = Field(description="Memory of the process and its browser (PSS).")
    versions: dict[str, Any] = Field(json_schema_extra=example({"waJs": "4.6.1"}))
    block: BlockShape | None


class OneSession(Model):
    """One session."""

    success: Literal[True]
    session: SessionShape


class SessionList(Model):
    """Sessions."""

    success: Literal[True]
    sessions: list[SessionShape]


class QrCode(Model):
    """The QR code to scan. It is a credential: the phone that scans it is linked."""

    success: Literal[True]
    qr: str = Field(description="The text of the QR code.")
    expiresAt: str | None = Field(description="When another QR code replaces it.", json_schema_extra=example(_TIME))


class PairingCode(Model):
    """The code to enter on the phone."""

    success: Literal[True]
    code: str = Field(json_schema_extra=example("ABCD-EFGH"))
    expiresAt: str | None = Field(json_schema_extra=example(_TIME))


class Found(Model):
    """A function that bisnesctl needs of the page."""

    name: str = Field(json_schema_extra=example("WPP.chat.sendTextMessage"))
    ok: bool
    detail: str = Field(description="The finding, or the problem; may be empty.")


class Examination(Model):
    """The functions of a session's page."""

    success: Literal[True]
    findings: list[Found]
