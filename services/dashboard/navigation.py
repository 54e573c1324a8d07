"""The pages that the menu names, for each person those that the person may open."""

from dataclasses import dataclass

from flask import request

from services.dashboard import access, texts


@dataclass(frozen=True)
class Entry:
    """One entry of the menu."""

    title: str
    endpoint: str
    is_current: bool


#: The endpoints of the pages in the order of the menu. The title of `numbers.index` is the text `menu.numbers_index`.
PAGES = (
    "overview.index", "processes.index", "numbers.index", "chats.index", "messages.index", "messages.waiting",
    "dead_letters.index", "alerts.index", "events.index", "commands.index", "audit.index", "keys.index",
    "settings.index", "people.index",
)  # fmt: skip


def entries() -> list[Entry]:
    """The entries for the request's person."""
    allowed = [endpoint for endpoint in PAGES if access.can_open(endpoint)]
    current = _nearest(request.endpoint or "", allowed)
    return [Entry(texts.text(f"menu.{name.replace('.', '_')}"), name, name == current) for name in allowed]


def _nearest(endpoint: str, pages: list[str]) -> str:
    """The page itself, or else the first one of its area, such as the list for one of its things."""
    area = endpoint.partition(".")[0]
    return endpoint if endpoint in pages else next((each for each in pages if each.startswith(f"{area}.")), "")
