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


#: The endpoints of the pages in the order of the menu. The title of `numbers.index` is the text `menu.numbers`.
PAGES = ("overview.index", "processes.index", "commands.index", "people.index")


def entries() -> list[Entry]:
    """The entries for the request's person."""
    current = (request.endpoint or "").partition(".")[0]
    return [
        Entry(texts.text(f"menu.{area}"), endpoint, area == current)
        for endpoint in PAGES
        if access.can_open(endpoint)
        for area in [endpoint.partition(".")[0]]
    ]
