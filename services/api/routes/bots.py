"""Numbers over HTTP: link one, ask its provider how it is, list and remove them. No credential ever leaves."""

from typing import Any

import structlog
from flask import g, request

from bisnesctl.bots import checks
from bisnesctl.bots import store as stored
from bisnesctl.bots.identity import IdentityRefused
from bisnesctl.bots.linking import LinkFailed, LinkOptions, LinkResult, link
from bisnesctl.bots.store import Bot, NewBot
from bisnesctl.encryption import EncryptionError
from bisnesctl.errors import BisnesError, ConfigError, Conflict, UsageError
from services.api.auth import Auth, Principal, company_of, resource
from services.api.current import context
from services.api.openapi import problems
from services.api.schemas.bots import (
    BotList,
    BotPath,
    BotQuery,
    LinkedBot,
    LinkRequest,
    OneBot,
    Removed,
    RemoveQuery,
    VerifiedBot,
    camel,
)
from services.http_server.errors import ApiError

log = structlog.get_logger()

_ABOUT = "The numbers of a company: link, verify, list and remove them."
bots = resource("bots", _ABOUT, Auth.KEY)
bot = resource("bot", _ABOUT, Auth.COMPANY)

Answer = tuple[dict[str, Any], int]


class _LinkRefused(ApiError):
    """A step of linking failed at the provider."""

    def __init__(self, failed: LinkFailed) -> None:
        status, code = (503, "provider_unavailable") if failed.temporary else (422, "link_failed")
        super().__init__(status, code, str(failed), {"Retry-After": "60"} if failed.temporary else {})
        self._failed = failed

    def body(self) -> dict[str, Any]:
        """The usual form, with the step, the provider's code, what to do, and whether the signup's token was stored."""
        error = self._failed.error
        more = {"providerCode": error.code or None, "next": error.advice} if error else {}
        return {**super().body(), "step": self._failed.step, **more, "kept": self._failed.kept}


@bots.post(
    "/api/bots",
    summary="Link a number",
    description=(
        "Asks Meta or 360dialog whether the credential opens the number, has its webhooks sent, registers it where "
        "a `pin` is given, and stores it; or changes a number: what is not named stays as it is. Ids are proved: "
        "`wabaId` must be the account whose list has the number (else `link_failed` at the step `account`), and those "
        "of a 360dialog number are what its API key is for (`id_mismatch` if others are named). A number that was "
        "held goes on. With the embedded signup's `code` (type `meta_embedded`, at most 30 seconds old) the code is "
        "exchanged first; where a later step fails the token is kept, unless the number works already, and the same "
        "request without the code goes on."
    ),
    responses={
        200: LinkedBot,
        201: LinkedBot,
        **problems("invalid_request", "invalid_json", "id_mismatch", "number_taken", "not_configured", "link_failed"),
        **problems("provider_unavailable", "database_unavailable"),
    },
)
def link_bot(body: LinkRequest) -> Answer:
    """201 for a new number, 200 for a known one."""
    if request.get_json(silent=True) is None:
        raise ApiError(400, "invalid_json", "the body must be a JSON object with what is to be linked")
    company = company_of(g.principal, body.company)
    wish = _wish(g.principal, company, body)
    linked = _do(wish)
    log.info("a number was linked", company=company, phone=wish.bot.phone, new=linked.new, asked=linked.asked)
    verified = {"name": linked.name, "displayNumber": linked.display_number} if linked.asked else None
    shown = _shown(_find(company, wish.bot.phone))
    answer = {"success": True, "bot": shown, "verified": verified, "next": list(linked.hints)}
    return answer, 201 if linked.new else 200


@bots.get("/api/bots", summary="All numbers", responses={200: BotList, **problems("foreign_company")})
def list_bots(query: BotQuery) -> dict[str, Any]:
    """Those of the key's company; for an operator all, or those of one company."""
    company = query.company if query.company is not None else g.principal.company_id
    if company is not None:
        g.principal.require_company(company)
    with context().database.connection() as connection:
        found = stored.find(connection, company)
    return {"success": True, "bots": [_shown(each) for each in found]}


@bot.get("/api/bots/<companyId>/<phoneIndex>", summary="One number", responses={200: OneBot, **problems("unknown_bot")})
def get_bot(path: BotPath) -> dict[str, Any]:
    """A number, what waits for it, what holds it, and what its last check found."""
    return {"success": True, "bot": _shown(_find(path.company_id, path.phone_index))}


@bot.post(
    "/api/bots/<companyId>/<phoneIndex>/verify",
    summary="Ask the provider how a number is",
    description=(
        "Quality, throughput, whether it can send, when its token expires and where its webhooks go; `problems` says "
        "what is wrong, with the next step for each. The same is done by itself every `BOT_CHECK_MINUTES`."
    ),
    responses={200: VerifiedBot, **problems("unknown_bot", "unsupported_by_channel")},
)
def verify_bot(path: BotPath) -> dict[str, Any]:
    """Asks now, and keeps the answer."""
    found = _find(path.company_id, path.phone_index)
    if found.type == "wwebjs":
        raise ApiError(409, "unsupported_by_channel", "a WhatsApp Web number has no provider that could be asked")
    here = context()
    finding = checks.check(here.database.connection, here.settings, path.company_id, path.phone_index)[0]
    shown = _shown(_find(path.company_id, path.phone_index))
    return {"success": True, "bot": shown, "report": camel(finding.plain()["report"]), "problems": shown["problems"]}


@bot.delete(
    "/api/bots/<companyId>/<phoneIndex>",
    summary="Remove a number",
    description="With its credentials. Its messages stay readable; those that wait fail, with `force=true` alone.",
    responses={200: Removed, **problems("unknown_bot", "messages_waiting")},
)
def remove_bot(path: BotPath, query: RemoveQuery) -> dict[str, Any]:
    """409 while messages wait, unless it is by force."""
    _find(path.company_id, path.phone_index)
    try:
        with context().database.connection() as connection:
            failed = stored.remove(connection, path.company_id, path.phone_index, query.force)
    except UsageError:
        raise _unknown(path.company_id, path.phone_index) from None
    except Conflict:
        message = "messages wait for this number: let them leave first, or give them up with ?force=true"
        raise ApiError(409, "messages_waiting", message) from None
    log.info("a number was removed", company=path.company_id, phone=path.phone_index, failed=failed)
    return {"success": True, "failedMessages": failed}


def _wish(principal: Principal, company: str, body: LinkRequest) -> LinkOptions:
    if not body.verify:
        principal.require_operator()  # what comes in for a number goes to whoever says that it is theirs
    if body.code is not None and body.token is not None:
        raise ApiError(400, "invalid_request", "code: give either a code or a token")
    if body.code is not None and body.type != "meta_embedded":
        raise ApiError(400, "invalid_request", "type: a code is of the embedded signup, type meta_embedded")
    if body.code is not None and body.pin is None and not body.coexistence:
        message = "pin: registers the number; leave it out with coexistence: true alone, for a number in use on a phone"
        raise ApiError(400, "invalid_request", message)
    new = NewBot(
        company, int(body.phone_index), body.type, body.phone_number_id, body.waba_id, body.display_number, body.token,
        body.rate,
    )  # fmt: skip
    pin = None if body.coexistence else body.pin
    return LinkOptions(new, body.code, pin, body.set_webhook, body.verify)


def _do(wish: LinkOptions) -> LinkResult:
    here = context()
    try:
        return link(here.database.connection, here.settings, wish)
    except BisnesError as error:
        raise _refusal(error) from None  # its cause was told; its traceback might tell more


def _refusal(error: BisnesError) -> ApiError:
    if isinstance(error, LinkFailed):
        return _LinkRefused(error)
    if isinstance(error, UsageError):
        return ApiError(400, "invalid_request", str(error))
    if isinstance(error, IdentityRefused):
        return ApiError(409, "id_mismatch", str(error))
    if isinstance(error, Conflict):
        return ApiError(409, "number_taken", str(error))
    if isinstance(error, ConfigError | EncryptionError):
        return ApiError(409, "not_configured", str(error))
    raise error


def _find(company: str, phone: int) -> Bot:
    with context().database.connection() as connection:
        found = stored.find(connection, company, phone)
    if not found:
        raise _unknown(company, phone)
    return found[0]


def _unknown(company: str, phone: int) -> ApiError:
    return ApiError(404, "unknown_bot", f"company {company} has no bot with phoneIndex {phone}")


def _shown(found: Bot) -> dict[str, Any]:
    held = None if found.held_until is None else {"until": found.held_until, "reason": found.held_reason}
    check = None if found.check is None else {"status": found.check, "at": found.checked_at}
    return {
        "companyId": found.company,
        "phoneIndex": found.phone,
        "type": found.type,
        "process": found.process,
        "status": found.status,
        "phoneNumberId": found.phone_number_id,
        "wabaId": found.waba_id,
        "displayNumber": found.display_number,
        "rate": found.rate,
        "waiting": found.waiting,
        "held": held,
        "outage": found.outage,
        "check": check,
        "problems": found.problems,
    }
