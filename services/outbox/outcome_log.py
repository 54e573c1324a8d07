"""The log lines of attempts and outcomes. A message that is sent without trouble is logged at debug alone."""

import logging
from typing import Any

import structlog

from services.message import Status
from services.outbox.departures import InHand
from services.outbox.outcome_policy import Result

log = structlog.get_logger()
_logger = logging.getLogger(__name__)  # asked first: the hot path spends nothing on lines that are not written


def about(hand: InHand) -> dict[str, Any]:
    """The fields that say which message it is."""
    message, bot = hand.message, hand.bot
    fields: dict[str, Any] = {"message_id": message.message_id, "request_id": message.request_id, "bot": message.bot_id}
    if bot is not None:
        fields |= {"company": bot.company_id, "phone": bot.phone_index}
    return {name: value for name, value in fields.items() if value is not None}


def write_attempt(hand: InHand) -> None:
    """Log that a message is about to leave."""
    if _logger.isEnabledFor(logging.DEBUG):
        log.debug("message.sending", attempt=hand.message.attempts + 1, step=hand.steps, **about(hand))


def write(hand: InHand, result: Result) -> None:
    """Log the recorded result of an attempt."""
    match result.status:
        case Status.SENT:
            if _logger.isEnabledFor(logging.DEBUG):
                log.debug("message.sent", provider_id=result.provider_id, **about(hand))
        case Status.FAILED:
            log.warning("message.failed", code=result.code, reason=result.error, **about(hand))
        case Status.UNKNOWN:
            log.warning("message.unknown", code=result.code, reason=result.error, **about(hand))
        case Status.WAITING:
            log.info("message.waiting", code=result.code, reason=result.error, **about(hand))
        case None:
            if _logger.isEnabledFor(logging.DEBUG):
                log.debug("message.postponed", retry_in_seconds=round(result.after, 1), **about(hand))
        case _:
            log.info(
                "message.retried",
                code=result.code, reason=result.error, retry_in_seconds=round(result.after, 1), **about(hand),
            )  # fmt: skip
