"""Pydantic models of decisions about messages whose outcome is unknown."""

from typing import Literal

from pydantic import ConfigDict, Field

from bisnesctl.database.resolutions import Resolution
from services.api.model import Model
from services.api.schemas.base import MessageId


class ResolveRequest(Model):
    """An operator's decision about a message."""

    model_config = ConfigDict(extra="forbid")

    resolution: Resolution = Field(
        alias="as",
        description="`sent` or `failed`: so it became. `again`: send it once more; its recipient may get it twice.",
        json_schema_extra={"example": "sent"},
    )


class Resolved(Model):
    """The decision is stored."""

    success: Literal[True]
    messageId: MessageId
    resolution: Resolution = Field(alias="as")
