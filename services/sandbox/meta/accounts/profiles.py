"""Business profiles of numbers (Cloud API, "Business profiles")."""

from typing import Any

from services.sandbox.meta.registry import Facts, Registry
from services.sandbox.meta.request_fields import GraphError, check_product, optional_text

#: The limits of a profile's texts, in characters.
MAX_CHARACTERS = {"about": 139, "address": 256, "description": 512, "email": 128}
MAX_WEBSITES = 2
MAX_WEBSITE_CHARACTERS = 256
VERTICALS = (
    "OTHER", "AUTO", "BEAUTY", "APPAREL", "EDU", "ENTERTAIN", "EVENT_PLAN", "FINANCE", "GROCERY", "GOVT", "HOTEL",
    "HEALTH", "NONPROFIT", "PROF_SERVICES", "RETAIL", "TRAVEL", "RESTAURANT", "ALCOHOL", "ONLINE_GAMBLING",
    "PHYSICAL_GAMBLING", "OTC_DRUGS", "MATRIMONY_SERVICE",
)  # fmt: skip

_FIELDS = (*MAX_CHARACTERS, "websites", "vertical", "profile_picture_url", "messaging_product")


class Profiles:
    """The profiles of all numbers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def describe(self, number: str, fields: str | None) -> Facts:
        """The requested fields of a number's profile that have a value."""
        wanted = [name.strip() for name in fields.split(",")] if fields else list(_FIELDS)
        if unknown := [name for name in wanted if name not in _FIELDS]:
            raise GraphError(100, f"tried to read a field that does not exist: {unknown[0]}")
        profile = {"vertical": "OTHER", **self._registry.facts("profile", number), "messaging_product": "whatsapp"}
        return {"data": [{name: profile[name] for name in dict.fromkeys([*wanted, "messaging_product"])
                          if name in profile}]}  # fmt: skip

    def change(self, number: str, fields: Facts) -> Facts:
        """Change the fields that the request has; an empty text deletes one."""
        check_product(fields)
        changes: Facts = {
            name: optional_text(fields, name, limit) if fields[name] else None
            for name, limit in MAX_CHARACTERS.items() if name in fields
        }  # fmt: skip
        if "websites" in fields:
            changes["websites"] = _websites(fields["websites"])
        if "vertical" in fields:
            if fields["vertical"] not in VERTICALS:
                raise GraphError(100, f"vertical must be one of {', '.join(VERTICALS)}")
            changes["vertical"] = fields["vertical"]
        if fields.get("profile_picture_handle"):
            changes["profile_picture_url"] = f"https://pps.whatsapp.net/{number}.jpg"
        self._registry.update("profile", number, changes)
        return {"success": True}


def _websites(value: Any) -> list[str] | None:
    if not isinstance(value, list) or len(value) > MAX_WEBSITES or not all(map(_is_website, value)):
        raise GraphError(100, f"websites must be a list of at most {MAX_WEBSITES} addresses with http:// or https://")
    return value or None


def _is_website(value: Any) -> bool:
    known = isinstance(value, str) and value.startswith(("http://", "https://"))
    return known and len(value) <= MAX_WEBSITE_CHARACTERS
