"""Numbers, accounts, tokens and templates: what differs from the defaults, kept in the file."""

import hashlib
import threading
import time
from typing import Any

import orjson

from services.sandbox.database import Database
from services.sandbox.meta.customers import whatsapp_id

#: The business account of every number that has no other.
ACCOUNT_ID = "100000000000001"
#: The app's id if the settings name none.
APP_ID = "100000000000002"
#: The number of that account, which exists from the beginning, and its phone number, as Meta's documentation has them.
NUMBER_ID, NUMBER = "106540352242922", "15550783881"
#: Kinds that survive a reset, so that linked numbers keep getting their webhooks.
PERMANENT_KINDS = ("webhook", "subscription", "key")
#: Kinds that a reset deletes.
RESET_KINDS = ("number", "account", "token", "template", "code", "customer", "profile", "blocked", "group")

_UPSERT = """
INSERT INTO object (kind, name, facts) VALUES (?, ?, ?)
ON CONFLICT (kind, name) DO UPDATE SET facts = excluded.facts"""

Facts = dict[str, Any]


class Registry:
    """Facts by kind and name of an object. Thread-safe: readers never see a half-changed object."""

    def __init__(self, database: Database, app_id: str = APP_ID) -> None:
        self._database = database
        self.app_id = app_id
        self._lock = threading.Lock()
        self._facts: dict[str, dict[str, Facts]] = {kind: {} for kind in (*PERMANENT_KINDS, *RESET_KINDS)}
        for row in database.rows("SELECT kind, name, facts FROM object"):
            self._facts[row["kind"]][row["name"]] = orjson.loads(row["facts"])

    def facts(self, kind: str, name: str) -> Facts:
        """The facts of one object; {} if it is unknown."""
        return self._facts[kind].get(name, {})

    def all(self, kind: str) -> dict[str, Facts]:
        """The facts of all objects of a kind, by their names."""
        return self._facts[kind].copy()

    def ensure(self, kind: str, name: str) -> None:
        """Add an object without facts, unless it is known."""
        if name not in self._facts[kind]:
            self.update(kind, name, {})

    def update(self, kind: str, name: str, facts: Facts) -> Facts:
        """Merge facts into those of an object; None deletes a fact. Returns all of them."""
        with self._lock:
            merged = {key: value for key, value in (self.facts(kind, name) | facts).items() if value is not None}
            with self._database.transaction() as connection:
                connection.execute(_UPSERT, (kind, name, orjson.dumps(merged).decode()))
            self._facts[kind][name] = merged
        return merged

    def remove(self, kind: str, name: str) -> Facts:
        """Delete an object, and return its facts."""
        with self._lock, self._database.transaction() as connection:
            connection.execute("DELETE FROM object WHERE kind = ? AND name = ?", (kind, name))
            return self._facts[kind].pop(name, {})

    def clear(self) -> None:
        """Delete everything but the destinations of webhooks."""
        with self._lock, self._database.transaction() as connection:
            for kind in RESET_KINDS:
                connection.execute("DELETE FROM object WHERE kind = ?", (kind,))
                self._facts[kind].clear()

    def account_of(self, number: str) -> str:
        """The business account of a number."""
        return str(self.facts("number", number).get("account", ACCOUNT_ID))

    def numbers_of(self, account: str) -> list[str]:
        """The numbers of an account: those that were named before, and the one that exists from the beginning."""
        known = self.all("number") | {NUMBER_ID: self.facts("number", NUMBER_ID)}
        return sorted(name for name, facts in known.items()
                      if self.account_of(name) == account and facts.get("exists", True))  # fmt: skip

    def phone_number(self, number: str) -> str:
        """The digits of a number's phone number, which is not its id."""
        shown = str(self.facts("number", number).get("display_phone_number", ""))
        return "".join(filter(str.isdigit, shown)) or _default_phone_number(number)

    def metadata(self, number: str) -> dict[str, str]:
        """The `metadata` of a webhook about a number."""
        return {"display_phone_number": self.phone_number(number), "phone_number_id": number}

    def whatsapp_id(self, chat: str) -> str:
        """The id under which WhatsApp knows a phone number: the one that /_sandbox/customer names, or the usual one."""
        return str(self.facts("customer", chat).get("wa_id") or whatsapp_id(chat))

    def set_default_account(self, number: str, account: str) -> None:
        """Give a known number this account, unless it has one."""
        if number in self._facts["number"] and "account" not in self.facts("number", number):
            self.update("number", number, {"account": account})

    def number_of_key(self, key: str) -> str:
        """The number that a key of 360dialog belongs to; a new key gets a number of its own."""
        known = self.facts("key", key).get("number")
        return str(known or self.update("key", key, {"number": _new_number(key)})["number"])

    def resolve_number(self, name: str) -> str:
        """A phone number id, given as it is or as a key of 360dialog."""
        return name if name.isascii() and name.isdigit() else self.number_of_key(name)

    def is_dialog360(self, number: str) -> bool:
        """Whether a number has a key of 360dialog."""
        return any(facts["number"] == number for facts in self.all("key").values())

    def may_see(self, token: str, node: str) -> bool:
        """Whether a token was issued for this account or for the account of this number. Most tokens see everything."""
        scopes = self.facts("token", token).get("granular_scopes", [])
        targets = {str(target) for scope in scopes for target in scope.get("target_ids", [])}
        return not targets or node in targets or self.account_of(node) in targets

    def is_valid_token(self, token: str) -> bool:
        """Whether a token was neither invalidated nor has expired."""
        facts = self.facts("token", token)
        return not facts or (bool(facts.get("is_valid", True)) and not 0 < facts.get("expires_at", 0) <= time.time())


def _default_phone_number(number: str) -> str:
    """A phone number that is always the same for an id: a test number of Meta's begins with +1 555, too."""
    if number == NUMBER_ID:
        return NUMBER
    return f"1555{int(hashlib.sha256(number.encode()).hexdigest(), 16) % 10**7:07d}"


def shown(digits: str) -> str:
    """A phone number as Meta shows it: +1 555-078-3881; of other countries without hyphens."""
    if len(digits) == 11 and digits.startswith("1"):
        return f"+1 {digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    return f"+{digits}"


def _new_number(key: str) -> str:
    """A phone number id that is always the same for a key: 15 digits, as Meta's often are."""
    return f"36{int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10**13:013d}"
