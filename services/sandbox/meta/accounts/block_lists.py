"""Customers that a number has blocked (Cloud API, "Block users")."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from services.sandbox.meta.accounts.paging import page_of
from services.sandbox.meta.registry import Facts, Registry
from services.sandbox.meta.request_fields import GraphError, check_product, required, required_list

#: Users in one request, at most.
MAX_USERS = 1000
#: Users that a number may have blocked, at most.
MAX_BLOCKED_USERS = 64_000
#: Only a customer who has written within this time can be blocked.
RECENT_SECONDS = 86400


class BlockLists:
    """The block lists of all numbers."""

    def __init__(self, registry: Registry, last_inbound_at: Callable[[str, str], float | None]) -> None:
        """`last_inbound_at`: when a customer last wrote to a number, in seconds since the epoch."""
        self._registry = registry
        self._last_inbound_at = last_inbound_at

    def is_blocked(self, number: str, chat: str) -> bool:
        """Whether a number has blocked a customer."""
        return chat in self._registry.facts("blocked", number)

    def page(self, number: str, query: Mapping[str, str], url: str) -> Facts:
        """A page of the customers that a number has blocked."""
        blocked = sorted(self._registry.facts("blocked", number))
        elements = [(chat, {"messaging_product": "whatsapp", "wa_id": chat}) for chat in blocked]
        return page_of(elements, query, url)

    def block(self, number: str, fields: Facts) -> tuple[int, Facts]:
        """Block customers. Returns the answer's HTTP status and body, which name those that could not be blocked."""
        return self._change(number, fields, "added_users", self._block)

    def unblock(self, number: str, fields: Facts) -> tuple[int, Facts]:
        """Unblock customers."""
        return self._change(number, fields, "removed_users", self._unblock)

    def _change(
        self, number: str, fields: Facts, succeeded: str, change: Callable[[str, str], None]
    ) -> tuple[int, Facts]:  # fmt: skip
        check_product(fields)
        done: list[Facts] = []
        failed: list[Facts] = []
        for element in required_list(fields, "block_users", MAX_USERS):
            given = required(element, "user")
            chat = self._registry.whatsapp_id(re.sub("[^0-9]", "", given) or given)
            try:
                change(number, chat)
                done.append({"input": given, "wa_id": chat})
            except GraphError as error:
                failed.append({"input": given, "wa_id": chat, "errors": [_described(error)]})
        answer: Facts = {"messaging_product": "whatsapp", "block_users": {succeeded: done}}
        if not failed:
            return 200, answer
        answer["block_users"]["failed_users"] = failed
        partly = GraphError(139100, "the users that could not be changed have errors of their own")
        return partly.http, answer | partly.envelope()

    def _block(self, number: str, chat: str) -> None:
        last = self._last_inbound_at(number, chat)
        if last is None or last + RECENT_SECONDS < time.time():
            raise GraphError(131047, "the customer has not written to this number within 24 hours")
        if len(self._registry.facts("blocked", number)) >= MAX_BLOCKED_USERS:
            raise GraphError(139101, f"a number can block {MAX_BLOCKED_USERS} users")
        self._registry.update("blocked", number, {chat: time.time()})

    def _unblock(self, number: str, chat: str) -> None:
        self._registry.update("blocked", number, {chat: None})


def _described(error: GraphError) -> dict[str, Any]:
    return {"message": error.title, "code": error.code, "error_data": {"details": error.details}}
