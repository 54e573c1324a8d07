"""The ids under which a provider knows a number and its account. What comes in is routed by them, and limits of an
account hold every number of it, so they come from the provider, or are proved to it with the number's credential."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bisnesctl import encryption
from bisnesctl.bots.graph_api import Graph, JsonObject, ProviderRefused
from bisnesctl.bots.provider_queries import ProviderBot, entity_id
from bisnesctl.bots.provider_report import Report
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict

#: Meta's code for what does not exist, or is not for the token's user to see.
_NO_OBJECT = "100"


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of a number and of its business account; None: not known."""

    phone_number_id: str | None
    waba_id: str | None


class IdentityRefused(Conflict):
    """An id was named that the credential does not open."""


def of_dialog360(health: JsonObject) -> Identity:
    """The ids in 360dialog's health status. Older answers leave them out."""
    return Identity(entity_id(health, "PHONE_NUMBER"), entity_id(health, "WABA"))


def check_named(named: Identity, told: Identity) -> None:
    """Raises `IdentityRefused` if an id that was named is not the one that 360dialog tells."""
    options = (
        ("number", "phoneNumberId", "--phone-number-id", named.phone_number_id, told.phone_number_id),
        ("account", "wabaId", "--waba-id", named.waba_id, told.waba_id),
    )
    for what, field, option, wanted, found in options:
        if wanted is None or wanted == found:
            continue
        if found is None:
            raise IdentityRefused(
                f"360dialog does not say which {what} this API key is for, so it cannot be {wanted}: leave {field} "
                f"({option}) out; if another key was entered for this bot, remove the bot and add it again"
            )
        raise IdentityRefused(
            f"this API key is for the {what} {found}, not {wanted}: leave {field} ({option}) out for a new bot, or "
            f"name {found}"
        )


def account_of(graph: Graph, number: str, accounts: Iterable[str]) -> str | None:
    """The first of these accounts whose list of numbers has the number; one that is refused is skipped.

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


def correct(connection: Connection, key: str, bot_id: int, subject: ProviderBot, report: Report) -> bool:
    """Replaces the stored ids by those that a check of the number proved; returns whether it disproved any.

    `key`: ENCRYPTION_KEY. Nothing is changed if the bot has other ids or another credential than those of the check.
    """
    stored = Identity(subject.phone_number_id or None, subject.waba_id)
    found = _found(stored, subject, report)
    if found == stored:
        return False
    pairs = (stored.phone_number_id, found.phone_number_id), (stored.waba_id, found.waba_id)
    disproved = any(before is not None and before != now for before, now in pairs)
    with connection:
        rows = query(connection, _STORED, (bot_id, stored.phone_number_id, stored.waba_id))
        if not rows or not rows[0][0] or encryption.decrypt(key, rows[0][0]) != subject.token:
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


def _found(stored: Identity, subject: ProviderBot, report: Report) -> Identity:
    """The ids as they should be after a check. What the provider does not tell stays."""
    if subject.type == "360dialog":
        number = report.phone_number_id or stored.phone_number_id
        return Identity(number, report.waba_id or (stored.waba_id if number == stored.phone_number_id else None))
    unseen = report.failure is not None and report.failure.code == _NO_OBJECT
    if unseen and not subject.ready and subject.type == "meta_embedded":  # nothing was proved when it was linked
        return Identity(None, None)
    return Identity(stored.phone_number_id, None if report.in_account is False else stored.waba_id)
