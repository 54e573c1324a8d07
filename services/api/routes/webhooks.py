"""Webhooks over HTTP: the addresses to which a company's events are posted."""

import secrets
from datetime import UTC, datetime
from typing import Any

from flask import g
from uuid_utils import uuid7

from bisnesctl.encryption import encrypt
from services.api.auth import Auth, company_of, context, resource
from services.api.openapi import problems
from services.api.schemas.webhooks import (
    CompanyQuery,
    DeliveryPage,
    DeliveryQuery,
    NewWebhook,
    OneWebhook,
    Replay,
    Replayed,
    Rotation,
    Tested,
    WebhookChange,
    WebhookList,
    WebhookPath,
    WebhookWithSecret,
)
from services.database.connection import Connection, as_uuid
from services.events import addresses, feed
from services.events import webhooks as registry
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError

webhooks = resource("webhooks", "Have events posted to an address of your own.", Auth.KEY)

#: Random bytes in a generated secret.
SECRET_BYTES = 32
#: Larger than the number of any delivery; the start of the first page.
NEWEST = 2**63 - 1

Answer = dict[str, Any]


@webhooks.post(
    "/api/webhooks",
    summary="Register a webhook",
    description="From now on the named events are posted to the address, signed with the secret.",
    responses={201: WebhookWithSecret, **problems("invalid_request", "too_many_webhooks")},
)
def register(body: NewWebhook) -> tuple[Answer, int]:
    """Register the webhook, and store the company's events from now on."""
    company = company_of(g.principal, body.company)
    _check_url(body.url)
    webhook_id, secret = str(uuid7()), body.secret or secrets.token_urlsafe(SECRET_BYTES)
    with context().database.connection() as connection:
        try:
            made = registry.register(
                connection, webhook_id, company, body.url, body.events, _encrypted(webhook_id, secret)
            )
        except registry.TooMany:
            raise ApiError(
                ErrorCode.TOO_MANY_WEBHOOKS, f"a company may have {registry.MAX_WEBHOOKS} webhooks"
            ) from None
    return {"success": True, "webhook": made, "secret": secret}, 201


@webhooks.get(
    "/api/webhooks",
    summary="A company's webhooks",
    responses={200: WebhookList, **problems("invalid_request")},
)
def list_webhooks(query: CompanyQuery) -> Answer:
    """List the webhooks, oldest first."""
    company = company_of(g.principal, query.company)
    with context().database.connection() as connection:
        return {"success": True, "webhooks": registry.of_company(connection, company)}


@webhooks.get(
    "/api/webhooks/<webhookId>",
    summary="One webhook",
    responses={200: OneWebhook, **problems("unknown_webhook")},
)
def get_webhook(path: WebhookPath) -> Answer:
    """Show a webhook."""
    with context().database.connection() as connection:
        return {"success": True, "webhook": _find(connection, path)}


_CHANGE: dict[str, Any] = {
    "description": "Changes its address, events, or whether it is active. Events that wait for it are sent at once.",
    "responses": {200: OneWebhook, **problems("invalid_request", "unknown_webhook")},
}


@webhooks.patch("/api/webhooks/<webhookId>", summary="Change a webhook", operation_id="patch_webhook", **_CHANGE)
@webhooks.put("/api/webhooks/<webhookId>", summary="Change a webhook (the same)", operation_id="put_webhook", **_CHANGE)
def change_webhook(path: WebhookPath, body: WebhookChange) -> Answer:
    """Change the given fields."""
    if body.url is not None:
        _check_url(body.url)
    with context().database.connection() as connection:
        found = _find(connection, path)
        registry.change(connection, found["id"], body.url, body.events, body.active)
        return {"success": True, "webhook": _find(connection, path)}


@webhooks.delete(
    "/api/webhooks/<webhookId>",
    summary="Delete a webhook",
    description="Also deletes the events that wait for it.",
    responses={200: {"description": "The webhook was deleted."}, **problems("unknown_webhook")},
)
def delete_webhook(path: WebhookPath) -> Answer:
    """Delete a webhook."""
    with context().database.connection() as connection:
        found = _find(connection, path)
        registry.remove(connection, found["id"], found["company"])
    return {"success": True}


@webhooks.post(
    "/api/webhooks/<webhookId>/rotate",
    summary="Replace a webhook's secret",
    description="Until the overlap ends, the header `X-Webhook-Hmac-Previous` signs with the old secret.",
    responses={200: WebhookWithSecret, **problems("invalid_request", "unknown_webhook")},
)
def rotate(path: WebhookPath, body: Rotation) -> Answer:
    """Replace the secret. The new one is shown only once."""
    secret = body.secret or secrets.token_urlsafe(SECRET_BYTES)
    with context().database.connection() as connection:
        found = _find(connection, path)
        registry.rotate(connection, found["id"], _encrypted(found["id"], secret), body.overlapSeconds)
        return {"success": True, "webhook": _find(connection, path), "secret": secret}


@webhooks.get(
    "/api/webhooks/<webhookId>/deliveries",
    summary="Deliveries of a webhook",
    description="Each event for the webhook, with the result of its delivery. `dead`: it failed permanently.",
    responses={200: DeliveryPage, **problems("invalid_request", "unknown_webhook")},
)
def deliveries(path: WebhookPath, query: DeliveryQuery) -> Answer:
    """List deliveries, newest event first."""
    before = NEWEST if query.cursor is None else query.cursor
    with context().database.connection() as connection:
        found = _find(connection, path)
        page, next_page = registry.deliveries(connection, found["id"], query.status, before, query.limit)
    return {"success": True, "deliveries": page, "nextCursor": None if next_page is None else str(next_page)}


@webhooks.post(
    "/api/webhooks/<webhookId>/replay",
    summary="Send events again",
    description=(
        "Queues one event (`eventId`), or all events of the webhook since an event or a time (`since`), in their order "
        "and with their original IDs. Events are kept for EVENTS_KEEP_DAYS."
    ),
    responses={200: Replayed, **problems("invalid_request", "unknown_webhook", "unknown_event", "rate_limited")},
)
def replay(path: WebhookPath, body: Replay) -> Answer:
    """Queue events again."""
    if (body.eventId is None) == (body.since is None):
        raise ApiError(ErrorCode.INVALID_REQUEST, "name either eventId or since")
    with context().database.connection() as connection:
        found = _find(connection, path)
        context().quotas.take_webhook_call(found["company"])
        name = found["id"], found["company"]
        if body.eventId is not None:
            count = registry.replay_one(connection, *name, body.eventId)
            if count is None:
                raise _unknown_event(body.eventId)
            return {"success": True, "count": count, "next": None}
        after = _after(connection, found["company"], str(body.since))
        count, next_id = registry.replay(connection, *name, after, body.limit)
    return {"success": True, "count": count, "next": next_id}


@webhooks.post(
    "/api/webhooks/<webhookId>/test",
    summary="Test a webhook",
    description="Queues an event `webhook.test` for this webhook only. Its deliveries show the result.",
    responses={202: Tested, **problems("unknown_webhook", "webhook_inactive", "rate_limited")},
)
def try_webhook(path: WebhookPath) -> tuple[Answer, int]:
    """Queue a test event."""
    with context().database.connection() as connection:
        found = _find(connection, path)
        if not found["active"]:
            raise ApiError(
                ErrorCode.WEBHOOK_INACTIVE, 'the webhook is not active: PATCH it with {"active": true} first'
            )
        context().quotas.take_webhook_call(found["company"])
        return {"success": True, "eventId": registry.test(connection, found["id"], found["company"])}, 202


def _find(connection: Connection, path: WebhookPath) -> Answer:
    """The webhook, if the key may see it. A webhook of another company is answered like one that does not exist."""
    webhook_id = as_uuid(path.webhookId)
    found = None if webhook_id is None else registry.find(connection, webhook_id)
    if found is None or g.principal.company_id not in (None, found["company"]):
        raise ApiError(
            ErrorCode.UNKNOWN_WEBHOOK, f"there is no webhook {path.webhookId} (GET /api/webhooks lists them)"
        )
    return found


def _check_url(url: str) -> None:
    try:
        addresses.check(url, context().settings.open_networks)
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"url: {error}") from None


def _encrypted(webhook_id: str, secret: str) -> str:
    key = context().settings.encryption_key.get_secret_value()
    return encrypt(key, secret, registry.secret_row(webhook_id))


def _after(connection: Connection, company: str, since: str) -> int:
    if since.startswith("evt_"):
        number = feed.number_of(connection, company, since)
        if number is None:
            raise _unknown_event(since)
        return number
    return feed.at(connection, company, _moment(since))


def _moment(text: str) -> datetime:
    try:
        if text.lstrip("-").isdigit():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        message = "since: an event's ID, a time such as 2025-01-31T08:00:00Z, or milliseconds since the epoch"
        raise ApiError(ErrorCode.INVALID_REQUEST, message) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _unknown_event(event_id: str) -> ApiError:
    return ApiError(ErrorCode.UNKNOWN_EVENT, f"the company has no event {event_id}, or it is no longer kept")
