"""A provider's ids of a phone number and its business account.

Incoming webhooks are routed by these ids, and limits of an account apply to all its numbers. So the ids are either
reported by the provider or verified with the bot's credential.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bisnesctl import encryption
from bisnesctl.bots.graph_api import Graph, JsonObject, ProviderRefused
from bisnesctl.bots.provider_queries import ProviderBot, entity_id
from bisnesctl.bots.provider_report import ProviderReport
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict

#: Meta's code for an object that does not exist, or that the token may not access.
_NO_OBJECT = "100"


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of a phone number and of its business account; None: unknown."""

    phone_number_id: str | None
    waba_id: str | None


class IdentityRefused(Conflict):
    """The credential does not belong to this id."""


def of_dialog360(health: JsonObject) -> Identity:
    """The ids in 360dialog's health status; older versions of the API omit them."""
    return Identity(entity_id(health, "PHONE_NUMBER"), entity_id(health, "WABA"))


def check_named(named: Identity, reported: Identity) -> None:
    """Raises `IdentityRefused` if an id in `named` differs from the id that 360dialog reports."""
    options = (
        ("number", "phoneNumberId", "--phone-number-id", named.phone_number_id, reported.phone_number_id),
        ("account", "wabaId", "--waba-id", named.waba_id, reported.waba_id),
    )
    for what, field, option, wanted, found in options:
        if wanted is None or wanted == found:
            continue
        if found is None:
            raise IdentityRefused(
                f"360dialog does not report the {what} of this API key, so {wanted} cannot be verified: leave out "
                f"{field} ({option}); if this bot had another key before, remove the bot and add it again"
            )
        raise IdentityRefused(
            f"this API key belongs to the {what} {found}, not {wanted}: leave out {field} ({option}) for a new bot, or "
            f"name {found}"
        )


def account_of(graph: Graph, number: str, accounts: Iterable[str]) -> str | None:
    """The first of these accounts that contains the number; accounts that the token may not access are skipped.

    Raises `ProviderUnavailable`.
    """
    for account in dict.fromkeys(accounts):
        with suppress(ProviderRefused):
            if number in graph.phone_numbers(account):
                return account
    return None


_STORED = """
SELECT CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM phone_configs
WHERE id = %s AND meta_phone_number_id IS NOT DISTINCT FROM %s AND meta_waba_id IS NOT DISTINCT FROM %s FOR UPDATE"""

_CORRECT = """
WITH corrected AS (
    UPDATE phone_configs c SET updated_at = now(), meta_waba_id = %(account)s,
        meta_phone_number_id = CASE WHEN NOT EXISTS (
            SELECT FROM phone_configs other WHERE other.id <> c.id AND other.process_name = c.process_name
                AND other.meta_phone_number_id = %(number)s) THEN %(number)s END
    WHERE id = %(bot)s RETURNING company_id, phone_index, process_name, meta_phone_number_id, meta_waba_id
)
INSERT INTO process_events (process_name, event_type, event_data, severity)
SELECT process_name, 'bot_ids_corrected', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
    'before', jsonb_build_object('phoneNumberId', %(number_before)s::text, 'wabaId', %(account_before)s::text),
    'now', jsonb_build_object('phoneNumberId', meta_phone_number_id, 'wabaId', meta_waba_id)), 'warning'
FROM corrected WHERE %(disproved)s"""


def correct(
    connection: Connection, keys: encryption.Keys, bot_id: int, bot: ProviderBot, report: ProviderReport
) -> bool:
    """Replaces the stored ids by those that a check verified; returns whether a stored id was wrong.

    `keys`: ENCRYPTION_KEY and those before it. Nothing is changed if the bot's ids or credential changed since the
    check.
    """
    stored = Identity(bot.phone_number_id or None, bot.waba_id)
    found = _found(stored, bot, report)
    if found == stored:
        return False
    pairs = (stored.phone_number_id, found.phone_number_id), (stored.waba_id, found.waba_id)
    disproved = any(before is not None and before != now for before, now in pairs)
    with connection:
        rows = query(connection, _STORED, (bot_id, stored.phone_number_id, stored.waba_id))
        if not rows or not rows[0][0] or encryption.decrypt(keys, rows[0][0]) != bot.token:
            return False
        values = {
            "bot": bot_id,
            "number": found.phone_number_id,
            "account": found.waba_id,
            "number_before": stored.phone_number_id,
            "account_before": stored.waba_id,
            "disproved": disproved,
        }
        query(connection, _CORRECT, values)
    return disproved


def _found(stored: Identity, bot: ProviderBot, report: ProviderReport) -> Identity:
    """The ids after a check. Ids that the provider does not report stay."""
    if bot.type == "360dialog":
        number = report.phone_number_id or stored.phone_number_id
        return Identity(number, report.waba_id or (stored.waba_id if number == stored.phone_number_id else None))
    unseen = report.failure is not None and report.failure.code == _NO_OBJECT
    if unseen and not bot.ready and bot.type == "meta_embedded":  # its ids were not verified when it was linked
        return Identity(None, None)
    return Identity(stored.phone_number_id, None if report.in_account is False else stored.waba_id)
