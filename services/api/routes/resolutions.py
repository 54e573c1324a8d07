"""Messages whose outcome is unknown over HTTP: an operator decides what became of them."""

from typing import Any

import structlog

from bisnesctl.database import resolutions as store
from bisnesctl.database.resolutions import Resolution
from services.api.auth import Auth, context, resource
from services.api.messages import lookup
from services.api.openapi import problems
from services.api.schemas.base import TargetPath
from services.api.schemas.resolutions import Resolved, ResolveRequest
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError

resolutions = resource("resolutions", "Decide what became of messages whose outcome is unknown.", Auth.OPERATOR)

log = structlog.get_logger()


@resolutions.post(
    "/api/messages/resolve/<companyId>/<path:messageId>",
    summary="Resolve a message whose outcome is unknown",
    description=(
        "The same as `bisnesctl dead-letters resolve`, for one message, named by our ID. The provider may have it, so "
        "it is not sent again by itself. Ask the recipient, then say `sent` or `failed`: a worker records it within "
        "seconds, with the event for the customer. `again` sends the message once more, in its place in the chat: the "
        "recipient may get it twice. A report of the provider that comes later still counts."
    ),
    responses={
        202: Resolved,
        **problems("invalid_request", "invalid_json", "unknown_message", "unknown_bot"),
        **problems("ambiguous_message", "not_unknown", "too_large"),
    },
)
def resolve(path: TargetPath, body: ResolveRequest) -> tuple[dict[str, Any], int]:
    """Note the decision, or queue the message again."""
    with context().database.connection() as connection:
        message_id, state = lookup.outgoing(connection, path.company_id, path.message_id)
        found = store.find_by_id(connection, [message_id])
        if body.resolution is Resolution.AGAIN and any(each.removed for each in found):
            message = f"the bot of the message {path.message_id} was removed: resolve it as sent or failed"
            raise ApiError(ErrorCode.UNKNOWN_BOT, message)
        if not found or not store.resolve(connection, [message_id], body.resolution):
            message = f"the message {path.message_id} is {state}: only one whose outcome is unknown can be resolved"
            raise ApiError(ErrorCode.NOT_UNKNOWN, message)
    log.info("message.resolution_stored", company=path.company_id, message_id=message_id, resolution=body.resolution)
    return {"success": True, "messageId": message_id, "as": body.resolution}, 202
