"""Bots over HTTP: link, verify, list and remove them. No answer contains a credential."""

from typing import Any

import structlog
from flask import g

from bisnesctl.bots import checks
from bisnesctl.bots import store as stored
from bisnesctl.bots.identity import IdentityRefused
from bisnesctl.bots.linking import LinkFailed, LinkOptions, LinkResult, link
from bisnesctl.bots.store import Bot, NewBot
from bisnesctl.database.quotas import QuotaExceeded
from bisnesctl.encryption import EncryptionError
from bisnesctl.errors import BisnesError, ConfigError, Conflict, UsageError
from services.api.auth import Auth, Principal, company_filter, company_of, context, resource
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
from services.http_server.error_codes import RETRY_LATER_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError, unknown_bot

log = structlog.get_logger()

_ABOUT = "The bots of a company: link, verify, list and remove them."
bots = resource("bots", _ABOUT, Auth.KEY)
bot = resource("bot", _ABOUT, Auth.COMPANY)

Answer = tuple[dict[str, Any], int]


class _LinkRefused(ApiError):
    """A step of linking failed at the provider."""

    def __init__(self, failed: LinkFailed) -> None:
        if failed.temporary:
            super().__init__(ErrorCode.PROVIDER_UNAVAILABLE, str(failed), retry_after(RETRY_LATER_SECONDS))
        else:
            super().__init__(ErrorCode.LINK_FAILED, str(failed))
        self._failed = failed

    def body(self) -> dict[str, Any]:
        """The usual form, with the step, the provider's code, the advice, and whether the signup's token was stored."""
        error = self._failed.error
        more = {"providerCode": error.code or None, "next": error.advice} if error else {}
        return {**super().body(), "step": self._failed.step, **more, "kept": self._failed.kept}


@bots.post(
    "/api/bots",
    summary="Link a number",
    description=(
        "Checks with Meta or 360dialog that the credential is valid for the number, subscribes to its webhooks, "
        "registers it if a `pin` is given, and stores it. For a known bot, only the given fields change. IDs are "
        "verified: `wabaId` must be the account that lists the number (otherwise `link_failed` at the step `account`), "
        "and the IDs of a 360dialog number must be those of its API key (otherwise `id_mismatch`). A hold of the bot "
        "ends. With the embedded signup's `code` (type `meta_embedded`, at most 30 seconds old), the code is exchanged "
        "first. If a later step fails, the token is stored unless the number works already, and the same request "
        "without the code continues."
    ),
    responses={
        200: LinkedBot,
        201: LinkedBot,
        **problems("invalid_request", "invalid_json", "id_mismatch", "number_taken", "not_configured", "link_failed"),
        **problems("too_many_numbers", "provider_unavailable", "database_unavailable"),
    },
)
def link_bot(body: LinkRequest) -> Answer:
    """Link a number: 201 for a new bot, 200 for a known one."""
    company = company_of(g.principal, body.company)
    options = _options(g.principal, company, body)
    linked = _link(options)
    log.info("bot.linked", company=company, phone=options.bot.phone, new=linked.new, asked=linked.asked)
    verified = {"name": linked.name, "displayNumber": linked.display_number} if linked.asked else None
    shown = _shown(_find(company, options.bot.phone))
    answer = {"success": True, "bot": shown, "verified": verified, "next": list(linked.hints)}
    return answer, 201 if linked.new else 200


@bots.get("/api/bots", summary="All numbers", responses={200: BotList, **problems("foreign_company")})
def list_bots(query: BotQuery) -> dict[str, Any]:
    """List the bots of the key's company; for an operator, all bots or those of one company."""
    company = company_filter(g.principal, query.company)
    with context().database.connection() as connection:
        found = stored.find(connection, company)
    return {"success": True, "bots": [_shown(each) for each in found]}


@bot.get(
    "/api/bots/<companyId>/<phoneIndex>",
    summary="One number",
    responses={200: OneBot, **problems("unknown_bot")},
)
def get_bot(path: BotPath) -> dict[str, Any]:
    """Show a bot, the number of its waiting messages, its hold, and the result of its last check."""
    return {"success": True, "bot": _shown(_find(path.company_id, path.phone_index))}


@bot.post(
    "/api/bots/<companyId>/<phoneIndex>/verify",
    summary="Check a number with its provider",
    description=(
        "Reports quality, throughput, whether the number can send, when its token expires and where its webhooks are "
        "sent. `problems` lists what is wrong, with the next step for each. Every number is also checked every "
        "`BOT_CHECK_MINUTES`."
    ),
    responses={200: VerifiedBot, **problems("unknown_bot", "unsupported_by_channel")},
)
def verify_bot(path: BotPath) -> dict[str, Any]:
    """Check a number now, and store the result."""
    found = _find(path.company_id, path.phone_index)
    if found.type == "wwebjs":
        raise ApiError(ErrorCode.UNSUPPORTED_BY_CHANNEL, "a WhatsApp Web number has no provider to ask")
    here = context()
    finding = checks.check(here.database.connection, here.settings, path.company_id, path.phone_index)[0]
    shown = _shown(_find(path.company_id, path.phone_index))
    return {"success": True, "bot": shown, "report": camel(finding.plain()["report"]), "problems": shown["problems"]}


@bot.delete(
    "/api/bots/<companyId>/<phoneIndex>",
    summary="Remove a number",
    description="Its credentials are deleted, its messages stay readable. With `force=true`, messages that wait fail.",
    responses={200: Removed, **problems("unknown_bot", "messages_waiting")},
)
def remove_bot(path: BotPath, query: RemoveQuery) -> dict[str, Any]:
    """Remove a bot; 409 while messages wait, unless `force` is set."""
    _find(path.company_id, path.phone_index)
    try:
        with context().database.connection() as connection:
            failed = stored.remove(connection, path.company_id, path.phone_index, query.force)
    except UsageError:
        raise unknown_bot(path.company_id, path.phone_index) from None
    except Conflict:
        message = "messages wait for this number: wait until they are sent, or fail them with ?force=true"
        raise ApiError(ErrorCode.MESSAGES_WAITING, message) from None
    log.info("bot.removed", company=path.company_id, phone=path.phone_index, failed=failed)
    return {"success": True, "failedMessages": failed}


def _options(principal: Principal, company: str, body: LinkRequest) -> LinkOptions:
    if not body.verify:
        principal.require_operator()  # messages to the number are delivered to the company that links it
    if body.code is not None and body.token is not None:
        raise ApiError(ErrorCode.INVALID_REQUEST, "code: give either a code or a token")
    if body.code is not None and body.type != "meta_embedded":
        raise ApiError(ErrorCode.INVALID_REQUEST, "type: a code belongs to the embedded signup, type meta_embedded")
    if body.code is not None and body.pin is None and not body.coexistence:
        message = "pin: required to register the number, unless coexistence is true (the number is in use on a phone)"
        raise ApiError(ErrorCode.INVALID_REQUEST, message)
    new = NewBot(
        company, int(body.phone_index), body.type, body.phone_number_id, body.waba_id, body.display_number, body.token,
        body.rate,
    )  # fmt: skip
    pin = None if body.coexistence else body.pin
    return LinkOptions(new, body.code, pin, body.set_webhook, body.verify)


def _link(options: LinkOptions) -> LinkResult:
    here = context()
    try:
        return link(here.database.connection, here.settings, options)
    except BisnesError as error:
        raise _refusal(error) from None  # without its cause, whose text may contain more than the caller may see


def _refusal(error: BisnesError) -> ApiError:
    if isinstance(error, LinkFailed):
        return _LinkRefused(error)
    if isinstance(error, UsageError):
        return ApiError(ErrorCode.INVALID_REQUEST, str(error))
    if isinstance(error, IdentityRefused):
        return ApiError(ErrorCode.ID_MISMATCH, str(error))
    if isinstance(error, QuotaExceeded):
        return ApiError(ErrorCode.TOO_MANY_NUMBERS, str(error))
    if isinstance(error, Conflict):
        return ApiError(ErrorCode.NUMBER_TAKEN, str(error))
    if isinstance(error, ConfigError | EncryptionError):
        return ApiError(ErrorCode.NOT_CONFIGURED, str(error))
    raise error


def _find(company: str, phone: int) -> Bot:
    with context().database.connection() as connection:
        found = stored.find(connection, company, phone)
    if not found:
        raise unknown_bot(company, phone)
    return found[0]


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
        "paused": None if found.paused is None else {name: found.paused[name] for name in ("since", "until", "reason")},
        "outage": found.outage,
        "check": check,
        "problems": found.problems,
    }
