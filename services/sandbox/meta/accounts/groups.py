"""Groups of a number, which customers join by a link (Cloud API, "Groups API")."""

import base64
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from services.sandbox.meta.accounts.paging import page_of
from services.sandbox.meta.customers import customer_fields
from services.sandbox.meta.registry import Facts, Registry
from services.sandbox.meta.request_fields import (
    GraphError,
    check_product,
    optional,
    optional_text,
    required,
    required_list,
)
from services.sandbox.meta.store import WebhookUpdate

MAX_SUBJECT_CHARACTERS = 128
MAX_DESCRIPTION_CHARACTERS = 2048
MAX_PARTICIPANTS = 8
INVITE_PREFIX = "https://chat.whatsapp.com/"

_FIELDS = (
    "id", "subject", "description", "join_approval_mode", "suspended", "total_participant_count", "participants",
    "creation_timestamp", "messaging_product",
)  # fmt: skip


class Groups:
    """The groups of all numbers."""

    def __init__(self, registry: Registry, publish: Callable[[list[WebhookUpdate]], None]) -> None:
        """`publish` stores updates and has them delivered."""
        self._registry = registry
        self._publish = publish

    def create(self, number: str, fields: Facts) -> Facts:
        """Create a group. A webhook reports its id and the link to join it."""
        check_product(fields)
        subject = required(fields, "subject", MAX_SUBJECT_CHARACTERS)
        mode = optional(
            fields, "join_approval_mode", lambda value: value in _APPROVAL_MODES, " or ".join(_APPROVAL_MODES)
        )
        group = base64.urlsafe_b64encode(f"{number}:{secrets.token_hex(8)}".encode()).decode().rstrip("=")
        facts: Facts = {
            "number": number, "subject": subject, "created": int(time.time()), "invite": secrets.token_urlsafe(16),
            "description": optional_text(fields, "description", MAX_DESCRIPTION_CHARACTERS),
            "join_approval_mode": mode or _APPROVAL_MODES[0], "participants": [],
        }  # fmt: skip
        self._registry.update("group", group, facts)
        request = secrets.token_hex(8)
        self._report(number, "group_lifecycle_update", {
            "group_id": group, "type": "group_create", "request_id": request, "subject": subject,
            "invite_link": INVITE_PREFIX + facts["invite"], "join_approval_mode": facts["join_approval_mode"],
        })  # fmt: skip
        return {"messaging_product": "whatsapp", "request_id": request}

    def page(self, number: str, query: Mapping[str, str], url: str) -> Facts:
        """A page of a number's groups."""
        elements = [
            (f"{facts['created']:012d}/{group}", {"id": group, "subject": facts["subject"],
                                                   "created_at": str(facts["created"])})
            for group, facts in self._registry.all("group").items() if facts["number"] == number
        ]  # fmt: skip
        page = page_of(sorted(elements, key=lambda element: element[0]), query, url)
        return page | {"data": {"groups": page["data"]}}

    def describe(self, group: str, fields: str | None) -> Facts:
        """The requested fields of a group. Raises `GraphError` 100 if it does not exist."""
        facts = self.find(group)
        wanted = [name.strip() for name in fields.split(",")] if fields else ["id"]
        if unknown := [name for name in wanted if name not in _FIELDS]:
            raise GraphError(100, f"tried to read a field that does not exist: {unknown[0]}")
        values = facts | {
            "id": group, "suspended": False, "messaging_product": "whatsapp",
            "creation_timestamp": str(facts["created"]), "total_participant_count": len(facts["participants"]),
            "participants": [customer_fields(chat, "wa_id", "user_id") for chat in facts["participants"]],
        }  # fmt: skip
        return {name: values[name] for name in dict.fromkeys([*wanted, "id", "messaging_product"])}

    def change(self, group: str, fields: Facts) -> Facts:
        """Change a group's subject or description."""
        number = self.find(group)["number"]
        changes = {
            name: required(fields, name, limit)
            for name, limit in (("subject", MAX_SUBJECT_CHARACTERS), ("description", MAX_DESCRIPTION_CHARACTERS))
            if name in fields
        }
        self._registry.update("group", group, changes)
        request = secrets.token_hex(8)
        reported = {f"group_{name}": {"text": text, "update_successful": True} for name, text in changes.items()}
        about = {"group_id": group, "type": "group_settings_update", "request_id": request}
        self._report(number, "group_settings_update", about | reported)
        return {"messaging_product": "whatsapp", "request_id": request}

    def delete(self, group: str) -> Facts:
        """Delete a group."""
        number = self.find(group)["number"]
        self._registry.remove("group", group)
        request = secrets.token_hex(8)
        about = {"group_id": group, "type": "group_delete", "request_id": request}
        self._report(number, "group_lifecycle_update", about)
        return {"messaging_product": "whatsapp", "request_id": request}

    def invite_link(self, group: str, renew: bool = False) -> Facts:
        """The link to join a group. `renew` makes the earlier one invalid."""
        facts = self.find(group)
        if renew:
            facts = self._registry.update("group", group, {"invite": secrets.token_urlsafe(16)})
        return {"messaging_product": "whatsapp", "invite_link": INVITE_PREFIX + str(facts["invite"])}

    def join(self, group: str, chat: str) -> Facts:
        """Let a customer join a group by its link."""
        facts = self.find(group)
        if chat not in facts["participants"] and len(facts["participants"]) >= MAX_PARTICIPANTS:
            raise GraphError(100, f"a group has at most {MAX_PARTICIPANTS} participants")
        participants = list(dict.fromkeys([*facts["participants"], chat]))
        self._registry.update("group", group, {"participants": participants})
        self._report_participants(facts["number"], group, "group_participants_add", "added_participants", [chat])
        return self.describe(group, "id,subject,participants")

    def remove_participants(self, group: str, fields: Facts) -> Facts:
        """Remove customers from a group."""
        facts = self.find(group)
        removed = [
            self._registry.whatsapp_id(required(participant, "user").lstrip("+"))
            for participant in required_list(fields, "participants", MAX_PARTICIPANTS)
        ]
        remaining = [chat for chat in facts["participants"] if chat not in removed]
        self._registry.update("group", group, {"participants": remaining})
        request = secrets.token_hex(8)
        self._report_participants(
            facts["number"], group, "group_participants_remove", "removed_participants", removed, request_id=request
        )
        return {"messaging_product": "whatsapp", "request_id": request}

    def find(self, group: str) -> Facts:
        """A group. Raises `GraphError` 100 if it does not exist."""
        facts = self._registry.facts("group", group)
        if not facts:
            raise GraphError(100, f"there is no object with the id {group}", 400, 33)
        return facts

    def check_recipient(self, number: str, group: str) -> None:
        """Raise the `GraphError` that the API answers with if a number cannot write to a group."""
        facts = self._registry.facts("group", group)
        if facts.get("number") != number:
            raise GraphError(131041, f"the number {number} has no group {group[:40]}")
        if not facts["participants"]:
            raise GraphError(131020, "nobody has joined the group")

    def _report_participants(
        self, number: str, group: str, kind: str, key: str, chats: Sequence[str], **more: Any
    ) -> None:  # fmt: skip
        people = [{"input": chat, **customer_fields(chat, "wa_id", "user_id")} for chat in chats]
        self._report(number, "group_participants_update", {"group_id": group, "type": kind, key: people, **more})

    def _report(self, number: str, field: str, about: Facts) -> None:
        value = {
            "messaging_product": "whatsapp", "metadata": self._registry.metadata(number),
            "groups": [{"timestamp": str(int(time.time())), **about}],
        }  # fmt: skip
        self._publish([WebhookUpdate("", number, "", orjson.dumps(value).decode(), time.time(), field)])


#: Whether a customer joins by the link alone; the first is the default.
_APPROVAL_MODES = ("auto_approve", "approval_required")
