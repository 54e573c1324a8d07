"""What the simulator knows of numbers, accounts, tokens and templates: what it was told, kept in the file."""

import hashlib
import threading
import time
from typing import Any

import orjson

from services.sandbox.database import Database

#: The business account of every number that none was told of.
ACCOUNT_ID = "100000000000001"
#: The app's id where the settings name none.
APP_ID = "100000000000002"
#: What is told once by the business itself and outlives a reset, so that linked numbers go on getting webhooks.
SET_UP = ("webhook", "subscription", "key")
#: What is forgotten with a reset.
PASSING = ("number", "account", "token", "template", "code")

_TELL = """
INSERT INTO told (kind, name, facts) VALUES (?, ?, ?)
ON CONFLICT (kind, name) DO UPDATE SET facts = excluded.facts"""

Facts = dict[str, Any]


class Registry:
    """Facts by kind and name; what was never told has none. Safe for threads: readers see whole facts."""

    def __init__(self, database: Database, app_id: str = APP_ID) -> None:
        self._database, self.app_id = database, app_id
        self._lock = threading.Lock()
        self._facts: dict[str, dict[str, Facts]] = {kind: {} for kind in (*SET_UP, *PASSING)}
        for row in database.rows("SELECT kind, name, facts FROM told"):
            self._facts[row["kind"]][row["name"]] = orjson.loads(row["facts"])

    def facts(self, kind: str, name: str) -> Facts:
        """What was told of one; {} where nothing was."""
        return self._facts[kind].get(name, {})

    def all(self, kind: str) -> dict[str, Facts]:
        """What was told of all of a kind, by their names."""
        return self._facts[kind].copy()

    def know(self, kind: str, name: str) -> None:
        """Remember that there is such a one, of which nothing need be told."""
        if name not in self._facts[kind]:
            self.tell(kind, name, {})

    def tell(self, kind: str, name: str, facts: Facts) -> Facts:
        """Keep facts beside those that are known; one that is None is forgotten. Returns all of them."""
        with self._lock:
            merged = {key: value for key, value in (self.facts(kind, name) | facts).items() if value is not None}
            with self._database.transaction() as connection:
                connection.execute(_TELL, (kind, name, orjson.dumps(merged).decode()))
            self._facts[kind][name] = merged
        return merged

    def forget(self, kind: str, name: str) -> Facts:
        """Forget one and return what was known of it."""
        with self._lock, self._database.transaction() as connection:
            connection.execute("DELETE FROM told WHERE kind = ? AND name = ?", (kind, name))
            return self._facts[kind].pop(name, {})

    def clear(self) -> None:
        """Forget everything but where webhooks go."""
        with self._lock, self._database.transaction() as connection:
            for kind in PASSING:
                connection.execute("DELETE FROM told WHERE kind = ?", (kind,))
                self._facts[kind].clear()

    def account_of(self, number: str) -> str:
        """The business account of a number."""
        return str(self.facts("number", number).get("account", ACCOUNT_ID))

    def settle_account(self, number: str, account: str) -> None:
        """A known number is of this account, if none was told."""
        if number in self._facts["number"] and "account" not in self.facts("number", number):
            self.tell("number", number, {"account": account})

    def number_of_key(self, key: str) -> str:
        """The number that a key of 360dialog belongs to; a key that was never seen gets one of its own."""
        known = self.facts("key", key).get("number")
        return str(known or self.tell("key", key, {"number": _digits(key)})["number"])

    def number_named(self, name: str) -> str:
        """A number by its phone number id or by its key of 360dialog."""
        return name if name.isascii() and name.isdigit() else self.number_of_key(name)

    def is_dialog360(self, number: str) -> bool:
        """Whether a number was reached through 360dialog."""
        return any(facts["number"] == number for facts in self._facts["key"].copy().values())

    def may_see(self, token: str, node: str) -> bool:
        """Whether a token was made for an account or for the account of a number; all are where it names none."""
        scopes = self.facts("token", token).get("granular_scopes", [])
        targets = {str(each) for scope in scopes for each in scope.get("target_ids", [])}
        return not targets or node in targets or self.account_of(node) in targets

    def token_works(self, token: str) -> bool:
        """Whether a token is still good, as far as it was told."""
        facts = self.facts("token", token)
        return not facts or (bool(facts.get("is_valid", True)) and not 0 < facts.get("expires_at", 0) <= time.time())


def _digits(key: str) -> str:
    """A number's id that is always the same for a key: 15 digits, as Meta's often are."""
    return f"36{int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10**13:013d}"
