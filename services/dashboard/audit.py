"""Records in the audit trail what people change in the dashboard without a command of the tool, such as an answer."""

from typing import Any

from flask import request

from bisnesctl.audit import masking, trail
from bisnesctl.audit.record import AuditRecord, Outcome, Source
from bisnesctl.settings import Settings


def record(settings: Settings, actor: str, action: str, company: str | None = None, **arguments: Any) -> None:
    """Records that somebody did something. Never raises."""
    trail.add_or_log(settings.home, _begun(actor, action, company, arguments).ended(Outcome.OK))


def record_failure(
    settings: Settings, actor: str, action: str, reason: str, company: str | None = None, **arguments: Any
) -> None:
    """Records that somebody was refused, such as at a sign-in. Never raises."""
    begun = _begun(actor, action, company, arguments)
    trail.add_or_log(settings.home, begun.ended(Outcome.FAILED, "refused", masking.text(reason)))


def _begun(actor: str, action: str, company: str | None, arguments: dict[str, Any]) -> AuditRecord:
    return AuditRecord(
        *(Source.DASHBOARD, actor, request.remote_addr or "", action), arguments=masking.masked(arguments),
        company=company,
    )  # fmt: skip
