"""API keys: generated here, stored as SHA-256, shown once."""

import hashlib
import secrets
from dataclasses import dataclass

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import UsageError
from bisnesctl.masking import KEY_PREFIX_LENGTH


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. Times are texts from the database."""

    id: int
    prefix: str
    company: str | None  # None: an operator's, for every company
    label: str
    created_at: str
    revoked_at: str | None


_COLUMNS = "id, prefix, company_id, label, created_at::timestamptz(0)::text, revoked_at::timestamptz(0)::text"


def generate() -> str:
    """A new key: `bk_` and 256 random bits."""
    return f"bk_{secrets.token_urlsafe(32)}"


def register(connection: Connection, key: str, company: str | None, label: str) -> None:
    """Stores a key; one that is stored already is not changed, revoked or not."""
    query(
        connection,
        "INSERT INTO api_keys (key_hash, prefix, company_id, label) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (key_hash) DO NOTHING",
        (_digest(key), key[:KEY_PREFIX_LENGTH], company, label),
    )


def find(connection: Connection, company: str | None = None, after: int = 0, limit: int | None = None) -> list[ApiKey]:
    """The keys of all or of a company, oldest first: at most `limit` behind the one with the id `after`."""
    rows = query(
        connection,
        f"SELECT {_COLUMNS} FROM api_keys WHERE (%(company)s IS NULL OR company_id = %(company)s) AND id > %(after)s"
        " ORDER BY id LIMIT %(limit)s",
        {"company": company, "after": after, "limit": limit},
    )
    return [ApiKey(*row) for row in rows]


def revoke(connection: Connection, name: str, company: str | None = None) -> ApiKey:
    """Revokes a key permanently, with immediate effect; a revoked key is not changed.

    `name`: its id, its prefix as `find` returns it, or the key itself. `company`: the key must belong to it.
    Raises `UsageError` if there is no such key, or several keys have the prefix.
    """
    with connection:
        rows = query(
            connection,
            f"SELECT {_COLUMNS} FROM api_keys WHERE (id::text = %(name)s OR prefix = %(name)s OR key_hash = %(digest)s)"
            " AND (%(company)s IS NULL OR company_id = %(company)s) ORDER BY id FOR UPDATE",
            {"name": name, "digest": _digest(name), "company": company},
        )
        found = _only([ApiKey(*row) for row in rows])
        query(connection, "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE id = %s", (found.id,))
    return found


def _only(found: list[ApiKey]) -> ApiKey:
    if not found:
        raise UsageError("there is no such key: `bisnesctl keys list` shows all with their ids")
    if len(found) > 1:
        ids = ", ".join(str(each.id) for each in found)
        raise UsageError(f"several keys have this prefix: name one by its id ({ids}, see `bisnesctl keys list`)")
    return found[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
