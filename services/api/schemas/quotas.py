"""Pydantic models of quotas."""

from typing import Literal

from pydantic import Field

from bisnesctl.database.quotas import Quota
from services.api.model import Model


class QuotaShape(Model):
    """A quota of a company."""

    quota: Quota
    limit: int | None = Field(description="null: unlimited.", json_schema_extra={"example": 50000})
    used: int | None = Field(
        description="How much of it is used now; null: a rate, which each API process counts for itself.",
        json_schema_extra={"example": 1234},
    )
    own: bool = Field(description="Whether the limit was set for this company. `false`: it is the default.")
    freesUp: str = Field(
        description="The event that makes room again.", json_schema_extra={"example": "once a session stops"}
    )
    freesUpAt: str | None = Field(
        description="When room is made at the earliest, in UTC, if the quota is used up and that is known.",
        json_schema_extra={"example": "2025-01-31T08:00:00Z"},
    )


class QuotaList(Model):
    """The quotas of a company."""

    success: Literal[True]
    company: str = Field(json_schema_extra={"example": "0128"})
    quotas: list[QuotaShape]
