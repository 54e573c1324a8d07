"""The stored credentials as a whole: whether ENCRYPTION_KEY decrypts them, and their encryption with a new key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bisnesctl import encryption
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import ConfigError
from bisnesctl.settings import Settings

#: Rows that one report names.
MAX_NAMED = 3

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """An encrypted column of a row."""

    table: str
    column: str
    id: str  # of the row
    name: str  # of its owner, for people
    used: bool  # False: a column that the type of the number does not use
    sealed: str = field(repr=False)

    @property
    def row(self) -> str:
        """The row to which it is bound, if it is."""
        return f"{self.table}:{self.id}"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column with secrets. `used`: SQL condition for the rows that use it."""

    table: str
    name: str
    key: str
    owner: str
    used: str = "true"


_BOT = "'bot ' || phone_index || ' of company ' || company_id"
_WEBHOOK = "'webhook ' || id || ' of company ' || company_id"
_META, _DIALOG360 = "connection_type IN ('meta_direct', 'meta_embedded')", "connection_type = '360dialog'"
_COLUMNS = (
    _Column("phone_configs", "meta_access_token_encrypted", "id", _BOT, _META),
    _Column("phone_configs", "api_key_encrypted", "id", _BOT, _DIALOG360),
    _Column("webhook", "secret_encrypted", "id", _WEBHOOK),
    _Column("webhook", "previous_encrypted", "id", _WEBHOOK),
    _Column("dialog360_secret", "secret_encrypted", "bot_id", "'number ' || bot_id || ' of 360dialog'"),
    _Column("dialog360_secret", "previous_encrypted", "bot_id", "'number ' || bot_id || ' of 360dialog'"),
)


def stored(connection: Connection, lock: bool = False) -> list[StoredSecret]:
    """All stored secrets. Works on a database of the former system too. `lock`: until the transaction ends."""
    found = []
    for column in _COLUMNS:
        if query(connection, "SELECT to_regclass(%s)", (column.table,)) == [(None,)]:
            continue
        statement = (
            f"SELECT {column.key}::text, {column.owner}, COALESCE({column.used}, false), {column.name}"
            f" FROM {column.table} WHERE {column.name} <> '' ORDER BY {column.key} {'FOR UPDATE' if lock else ''}"
        )
        found += [StoredSecret(column.table, column.name, *row) for row in query(connection, statement)]
    return found


def unreadable(secrets: Sequence[StoredSecret], keys: encryption.Keys) -> list[StoredSecret]:
    """Those that none of the keys decrypts."""
    return [each for each in secrets if not encryption.decrypts(keys, each.sealed, each.row)]


def check(connection: Connection, settings: Settings, report: Report, accept_lost: bool = False) -> None:
    """Checks that ENCRYPTION_KEY is the key of the stored credentials, and reports single ones that it is not.

    Raises `ConfigError` if it decrypts none of them, unless `accept_lost`: then it is another system's key.
    """
    secrets = [each for each in stored(connection) if each.used]
    lost = unreadable(secrets, settings.decryption_keys)
    if not lost:
        return
    names = ", ".join(f"{each.name} ({each.table}.{each.column}, id {each.id})" for each in lost[:MAX_NAMED])
    more = f" and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
    if len(lost) < len(secrets) or accept_lost:
        report(
            f"[yellow]ENCRYPTION_KEY does not decrypt the credential of {names}{more}[/]: store it again with "
            "`bisnesctl bots add … --token-stdin`"
        )
        return
    what = "is empty" if not settings.encryption_key else "is not the key of the stored credentials"
    raise ConfigError(
        f"ENCRYPTION_KEY in {settings.env_file} {what}: it does not decrypt that of {names}{more}. Enter the "
        "ENCRYPTION_KEY of the system that stored them. If it is lost, `bisnesctl start --accept-lost-credentials` "
        "starts without them, and each must be stored again"
    )


def replace_key(connection: Connection, settings: Settings) -> tuple[int, list[StoredSecret]]:
    """Encrypts all secrets with ENCRYPTION_KEY that were encrypted with another of the keys, all or none.

    Returns how many were encrypted again, and those that no key decrypts, which stay. May be repeated.
    """
    current, count = settings.encryption_key.get_secret_value(), 0
    with connection:
        secrets = stored(connection, lock=True)
        lost = unreadable(secrets, settings.decryption_keys)
        for each in secrets:
            if each in lost or encryption.decrypts(current, each.sealed, each.row):
                continue
            text = encryption.decrypt(settings.decryption_keys, each.sealed, each.row)
            _write(connection, each, _sealed(current, text, each))
            count += 1
    return count, lost


def _sealed(key: str, text: str, secret: StoredSecret) -> str:
    if secret.table == "phone_configs":
        return encryption.encrypt_shared(key, text)
    return encryption.encrypt(key, text, secret.row)


def _write(connection: Connection, secret: StoredSecret, sealed: str) -> None:
    key = next(each.key for each in _COLUMNS if each.table == secret.table)
    query(
        connection,
        f"UPDATE {secret.table} SET {secret.column} = %s WHERE {key}::text = %s",
        (sealed, secret.id),
    )
