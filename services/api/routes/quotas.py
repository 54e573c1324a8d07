"""Quotas over HTTP: how much a company may use, and how much it uses."""

from typing import Any

from flask import g

from bisnesctl.database import quotas as store
from services.api.auth import Auth, company_of, context, resource
from services.api.openapi import problems
from services.api.schemas.quotas import QuotaList
from services.api.schemas.webhooks import CompanyQuery

quotas = resource("quotas", "See how much a company may use.", Auth.KEY)


@quotas.get(
    "/api/quotas",
    summary="A company's quotas",
    description="The same figures as those of `bisnesctl quotas list`. Operators change the limits.",
    responses={200: QuotaList, **problems("invalid_request")},
)
def list_quotas(query: CompanyQuery) -> dict[str, Any]:
    """List every quota with its limit and its use."""
    company = company_of(g.principal, query.company)
    here = context()
    with here.database.connection() as connection:
        found = store.find(connection, here.settings, company)
    shown = [
        {
            "quota": each.quota.value,
            "limit": each.limit,
            "used": each.used,
            "own": each.own,
            "freesUp": each.frees_up,
            "freesUpAt": each.frees_up_at,
        }
        for each in found
    ]
    return {"success": True, "company": company, "quotas": shown}
