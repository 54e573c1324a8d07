"""The file of people, an SQLite database that only the deployment's user can read.

Tokens and invitations are kept as SHA-256 digests: nobody can sign in with what the file says. Times are seconds since
the epoch.
"""

import contextlib
import hashlib
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bisnesctl.errors import Conflict, Unavailable, UsageError
from bisnesctl.people.roles import Role

#: The file's name in the folder of the deployment.
FILE_NAME = "people.sqlite3"
#: Hours for which an invitation is valid.
INVITATION_HOURS = 48
#: Seconds without a request after which a person is signed out.
IDLE_SECONDS = 12 * 3600.0
#: Seconds after which a person signs in again in any case.
SIGN_IN_SECONDS = 7 * 86400.0
#: Seconds between two notes of when a sign-in was last used.
SEEN_SECONDS = 60.0
#: Characters of a browser's name that are kept.
MAX_AGENT = 120
#: Seconds for which one process waits for another that writes.
LOCK_SECONDS = 5.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS person (
    name           TEXT PRIMARY KEY,
    role           TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    company_id     TEXT,               -- whose bots the person sees; NULL: all
    password       TEXT,               -- hash; NULL: the invitation was not accepted yet
    code_secret    TEXT,               -- of one-time codes, in base32; NULL: none
    code_used      INTEGER NOT NULL DEFAULT 0,  -- the period of the last code: each is valid once
    created_at     REAL NOT NULL,
    signed_in_at   REAL
);
CREATE TABLE IF NOT EXISTS invitation (
    digest     TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE REFERENCES person ON DELETE CASCADE,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS sign_in (
    digest     TEXT PRIMARY KEY,
    name       TEXT NOT NULL REFERENCES person ON DELETE CASCADE,
    created_at REAL NOT NULL,
    seen_at    REAL NOT NULL,
    address    TEXT NOT NULL,
    agent      TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS failure (
    name    TEXT NOT NULL,
    address TEXT NOT NULL,
    count   INTEGER NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (name, address)
);
"""


@dataclass(frozen=True)
class Person:
    """One person."""

    name: str
    role: Role
    #: The company whose bots the person sees; None: all companies.
    company_id: str | None
    #: Whether an invitation was accepted.
    has_password: bool
    has_codes: bool
    created_at: float
    signed_in_at: float | None
    #: Until when the open invitation is valid.
    invited_until: float | None


@dataclass(frozen=True)
class SignIn:
    """One browser in which a person is signed in."""

    #: The digest of its token, which names it.
    digest: str
    person: Person
    created_at: float
    seen_at: float
    address: str
    agent: str


@dataclass(frozen=True)
class Secrets:
    """The secrets that a sign-in is checked against."""

    password: str | None
    code_secret: str | None
    code_used: int


def digest_of(token: str) -> str:
    """The form in which a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def normal_name(name: str) -> str:
    """A name as it is kept. Raises `UsageError` for one that nobody can have."""
    found = name.strip().lower()
    if not _NAME.fullmatch(found):
        raise UsageError("a name has up to 64 small letters, digits and . _ @ -, and begins with a letter or digit")
    return found


class PeopleStore:
    """The people of one deployment. Each call is one transaction; every method raises `Unavailable` without a disk."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE_NAME

    # --- People ----------------------------------------------------------------------------------------------------

    def people(self) -> list[Person]:
        """All of them, by name."""
        with self._reading() as connection:
            return [_person(row) for row in connection.execute(f"{_PERSON} ORDER BY name", {"now": time.time()})]

    def find(self, name: str) -> Person | None:
        """The person of this name."""
        with self._reading() as connection:
            row = connection.execute(f"{_PERSON} WHERE name = :name", {"name": name, "now": time.time()}).fetchone()
            return None if row is None else _person(row)

    def get(self, name: str) -> Person:
        """The same. Raises `UsageError` that lists the names if there is none."""
        found = self.find(name)
        if found is None:
            names = ", ".join(each.name for each in self.people()) or "nobody yet (bisnesctl users add)"
            raise UsageError(f"there is no person {name}. There are: {names}")
        return found

    def add(self, name: str, role: Role, company_id: str | None) -> str:
        """Adds a person; returns the code of the invitation. Raises `Conflict` if the name is taken."""
        with self._transaction() as connection:
            try:
                connection.execute(
                    "INSERT INTO person (name, role, company_id, created_at) VALUES (?, ?, ?, ?)",
                    (name, role.value, company_id, time.time()),
                )
            except sqlite3.IntegrityError:
                raise Conflict(f"{name} exists: `bisnesctl users invite {name}` makes a new invitation") from None
            return _invite(connection, name)

    def invite(self, name: str) -> str:
        """A new invitation, for a password that was lost. The old password stays valid until it is accepted."""
        self.get(name)
        with self._transaction() as connection:
            return _invite(connection, name)

    def change(self, name: str, role: Role, company_id: str | None) -> None:
        """Gives a person another role and company. It counts from the person's next request."""
        self.get(name)
        with self._transaction() as connection:
            connection.execute(
                "UPDATE person SET role = ?, company_id = ? WHERE name = ?", (role.value, company_id, name)
            )

    def remove(self, name: str) -> None:
        """Removes a person, who is signed out everywhere."""
        self.get(name)
        with self._transaction() as connection:
            connection.execute("DELETE FROM person WHERE name = ?", (name,))
            connection.execute("DELETE FROM failure WHERE name = ?", (name,))

    # --- Invitations and passwords -----------------------------------------------------------------------------------

    def invited(self, code: str) -> str | None:
        """The name of the person whom a valid invitation is for."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT name FROM invitation WHERE digest = ? AND expires_at > ?", (digest_of(code), time.time())
            ).fetchone()
            return None if row is None else str(row["name"])

    def accept(self, code: str, password_hash: str) -> str | None:
        """Sets the password of an invitation's person, who is signed out everywhere; the name, or None if the
        invitation is not valid any more."""
        with self._transaction() as connection:
            row = connection.execute(
                "DELETE FROM invitation WHERE digest = ? AND expires_at > ? RETURNING name",
                (digest_of(code), time.time()),
            ).fetchone()
            if row is None:
                return None
            name = str(row["name"])
            connection.execute(
                "UPDATE person SET password = ?, code_secret = NULL, code_used = 0 WHERE name = ?",
                (password_hash, name),
            )
            connection.execute("DELETE FROM sign_in WHERE name = ?", (name,))
            connection.execute("DELETE FROM failure WHERE name = ?", (name,))
            return name

    def secrets_of(self, name: str) -> Secrets | None:
        """The secrets that a person's sign-in is checked against."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT password, code_secret, code_used FROM person WHERE name = ?", (name,)
            ).fetchone()
            return None if row is None else Secrets(row["password"], row["code_secret"], row["code_used"])

    def set_password(self, name: str, password_hash: str, but: str) -> None:
        """Sets a password; the person stays signed in with the digest `but` only."""
        with self._transaction() as connection:
            connection.execute("UPDATE person SET password = ? WHERE name = ?", (password_hash, name))
            connection.execute("DELETE FROM sign_in WHERE name = ? AND digest != ?", (name, but))

    def set_code_secret(self, name: str, secret: str | None, used: int = 0) -> None:
        """Demands one-time codes of this secret from a person, or none. `used`: the period of the last code."""
        with self._transaction() as connection:
            connection.execute("UPDATE person SET code_secret = ?, code_used = ? WHERE name = ?", (secret, used, name))

    def use_code(self, name: str, period: int) -> bool:
        """Notes that the code of a period was used; False if it, or a later one, was used before."""
        with self._transaction() as connection:
            done = connection.execute(
                "UPDATE person SET code_used = ? WHERE name = ? AND code_used < ?", (period, name, period)
            )
            return done.rowcount == 1

    # --- Failures ------------------------------------------------------------------------------------------------

    def failures(self, name: str) -> dict[str, tuple[int, float]]:
        """By address: failed sign-ins with this name in a row, and when the last one was."""
        with self._reading() as connection:
            rows = connection.execute("SELECT address, count, last_at FROM failure WHERE name = ?", (name,))
            return {row["address"]: (row["count"], row["last_at"]) for row in rows}

    def note_failure(self, name: str, address: str, forget_seconds: float) -> None:
        """Counts a failed sign-in. Those that are older than `forget_seconds` are forgotten."""
        now = time.time()
        with self._transaction() as connection:
            connection.execute("DELETE FROM failure WHERE last_at < ?", (now - forget_seconds,))
            connection.execute(
                "INSERT INTO failure VALUES (?, ?, 1, ?)"
                " ON CONFLICT (name, address) DO UPDATE SET count = count + 1, last_at = excluded.last_at",
                (name, address, now),
            )

    def forget_failures(self, name: str, address: str | None = None) -> None:
        """Forgets failed sign-ins of one address, or all."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM failure WHERE name = ? AND address = coalesce(?, address)", (name, address))

    # --- Sign-ins --------------------------------------------------------------------------------------------------

    def begin(self, name: str, address: str, agent: str) -> str:
        """Signs a person in; returns the token of the browser."""
        token, now = secrets.token_urlsafe(32), time.time()
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM sign_in WHERE seen_at < ? OR created_at < ?", (now - IDLE_SECONDS, now - SIGN_IN_SECONDS)
            )
            connection.execute(
                "INSERT INTO sign_in VALUES (?, ?, ?, ?, ?, ?)",
                (digest_of(token), name, now, now, address, agent[:MAX_AGENT]),
            )
            connection.execute("UPDATE person SET signed_in_at = ? WHERE name = ?", (now, name))
        return token

    def of_token(self, token: str) -> SignIn | None:
        """The sign-in of a browser; None if it ended."""
        now, digest = time.time(), digest_of(token)
        with self._reading() as connection:
            row = connection.execute(_VALID_SIGN_IN, _valid(now) | {"digest": digest}).fetchone()
        if row is None:
            return None
        if now - row["seen_at"] > SEEN_SECONDS:
            with contextlib.suppress(Unavailable):  # on a full disk, pages can still be read
                self._note_seen(digest, now)
        return _sign_in(row)

    def _note_seen(self, digest: str, now: float) -> None:
        with self._transaction() as connection:
            connection.execute("UPDATE sign_in SET seen_at = ? WHERE digest = ?", (now, digest))

    def sign_ins(self, name: str) -> list[SignIn]:
        """The browsers in which a person is signed in, the last used first."""
        with self._reading() as connection:
            rows = connection.execute(_VALID_SIGN_INS, _valid(time.time()) | {"name": name})
            return [_sign_in(row) for row in rows]

    def end(self, digest: str) -> None:
        """Signs one browser out."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sign_in WHERE digest = ?", (digest,))

    def end_all(self, name: str) -> int:
        """Signs a person out everywhere; returns the number of browsers."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM sign_in WHERE name = ?", (name,)).rowcount

    # --- The file --------------------------------------------------------------------------------------------------

    def _reading(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A transaction that only reads, so that it waits for no other one that does."""
        return self._transaction("BEGIN")

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(self._connect()) as connection:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable(
                f"the people of the dashboard in {self.path} cannot be read or written: {error}"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'failure'").fetchone():
                connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection


_PERSON = """
SELECT name, role, company_id, password IS NOT NULL AS has_password, code_secret IS NOT NULL AS has_codes, created_at,
    signed_in_at,
    (SELECT expires_at FROM invitation i WHERE i.name = person.name AND expires_at > :now) AS invited_until
FROM person"""
_SIGN_IN = """
SELECT s.digest, s.created_at AS began_at, s.seen_at, s.address, s.agent, p.*
FROM sign_in s JOIN ({person}) p ON p.name = s.name WHERE s.seen_at > :idle_since AND s.created_at > :began_since"""
_VALID_SIGN_IN = _SIGN_IN.format(person=_PERSON) + " AND s.digest = :digest"
_VALID_SIGN_INS = _SIGN_IN.format(person=_PERSON) + " AND s.name = :name ORDER BY s.seen_at DESC"


def _valid(now: float) -> dict[str, float | str]:
    return {"now": now, "idle_since": now - IDLE_SECONDS, "began_since": now - SIGN_IN_SECONDS}


def _invite(connection: sqlite3.Connection, name: str) -> str:
    code = secrets.token_urlsafe(24)
    expires_at = time.time() + INVITATION_HOURS * 3600
    connection.execute("DELETE FROM invitation WHERE name = ?", (name,))
    connection.execute("INSERT INTO invitation VALUES (?, ?, ?)", (digest_of(code), name, expires_at))
    return code


def _person(row: sqlite3.Row) -> Person:
    return Person(
        row["name"], Role(row["role"]), row["company_id"], bool(row["has_password"]), bool(row["has_codes"]),
        row["created_at"], row["signed_in_at"], row["invited_until"],
    )  # fmt: skip


def _sign_in(row: sqlite3.Row) -> SignIn:
    return SignIn(row["digest"], _person(row), row["began_at"], row["seen_at"], row["address"], row["agent"])
