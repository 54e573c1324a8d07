"""The secrets that prove that a webhook of a number comes from 360dialog.

A secret is derived from ENCRYPTION_KEY until it is rotated; a rotated one is stored. While it is replaced, the one
before is accepted too.
"""

from collections.abc import Mapping

from bisnesctl import encryption
from bisnesctl.bots import store
from bisnesctl.bots.provider_queries import derived_dialog360_secrets
from bisnesctl.database.postgres import Connection, query
from bisnesctl.settings import Settings

#: Minutes for which a replaced secret is accepted: webhooks are on their way, or are repeated.
OVERLAP_MINUTES = 60

_STORED = """
SELECT c.company_id, c.phone_index, s.bot_id, s.secret_encrypted,
       CASE WHEN s.previous_until > now() THEN s.previous_encrypted END
FROM dialog360_secret s JOIN phone_configs c ON c.id = s.bot_id
WHERE c.connection_type = '360dialog' AND (%(bot)s IS NULL OR s.bot_id = %(bot)s)"""
_SAVE = f"""
INSERT INTO dialog360_secret (bot_id, secret_encrypted, previous_encrypted, previous_until)
VALUES (%(bot)s, %(secret)s, %(previous)s, now() + {OVERLAP_MINUTES} * interval '1 minute')
ON CONFLICT (bot_id) DO UPDATE SET secret_encrypted = excluded.secret_encrypted,
    previous_encrypted = excluded.previous_encrypted, previous_until = excluded.previous_until"""


def stored(
    connection: Connection, settings: Settings, bot_id: int | None = None
) -> Mapping[tuple[str, int], list[str]]:
    """The accepted secrets of numbers whose secret is stored, by company and phone; the current one first."""
    found = {}
    for company, phone, bot, *sealed in query(connection, _STORED, {"bot": bot_id}):
        row = row_of(bot)
        found[company, phone] = [encryption.decrypt(settings.decryption_keys, each, row) for each in sealed if each]
    return found


def current(connection: Connection, settings: Settings, company: str, phone: int) -> str:
    """The secret of a number."""
    known = next(iter(store.known(connection, company, phone)), None)
    found = stored(connection, settings, known.id) if known else {}
    return found[company, phone][0] if found else derived_dialog360_secrets(settings, company, phone)[0]


def save(connection: Connection, settings: Settings, bot_id: int, secret: str, previous: str | None) -> None:
    """Stores the secret of a number, and the one before."""
    key, row = settings.encryption_key.get_secret_value(), row_of(bot_id)
    sealed = encryption.encrypt(key, secret, row)
    before = None if previous is None else encryption.encrypt(key, previous, row)
    query(connection, _SAVE, {"bot": bot_id, "secret": sealed, "previous": before})


def keep_derived(connection: Connection, settings: Settings) -> None:
    """Stores the secrets that are derived from ENCRYPTION_KEY, so that they stay valid when it is replaced."""
    for bot in store.known(connection):
        if bot.type == "360dialog" and not stored(connection, settings, bot.id):
            save(connection, settings, bot.id, current(connection, settings, bot.company, bot.phone), None)


def row_of(bot_id: int) -> str:
    """The row to which the secrets of a number are bound."""
    return f"dialog360_secret:{bot_id}"
