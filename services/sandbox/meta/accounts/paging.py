"""Pages of lists, as the Graph API returns them (Graph API, "Paginated results": cursor-based pagination)."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from services.sandbox.meta.registry import Facts
from services.sandbox.meta.request_fields import GraphError

#: Elements of a page, if the request does not say.
DEFAULT_PAGE_SIZE = 25
#: Parameters that the links to other pages replace.
_PLACES = ("after", "before", "limit")


def page_of(elements: Sequence[tuple[str, Facts]], query: Mapping[str, str], url: str) -> Facts:
    """A page of elements, each with the key that it is sorted by. `url`: the request's, without its query."""
    limit = _limit(query)
    after, before = (_key(query[name]) if query.get(name) else None for name in ("after", "before"))
    keys = [key for key, _ in elements]
    first = sum(key <= after for key in keys) if after is not None else 0
    if before is not None:
        first = max(sum(key < before for key in keys) - limit, 0)
    page = elements[first : first + limit]
    if before is not None:
        page = [element for element in page if element[0] < before]
    answer: Facts = {"data": [facts for _, facts in page]}
    if not page:
        return answer
    cursors = {"before": _cursor(page[0][0]), "after": _cursor(page[-1][0])}
    links = {}
    if page[0][0] != keys[0]:
        links["previous"] = _link(url, query, limit, "before", cursors["before"])
    if page[-1][0] != keys[-1]:
        links["next"] = _link(url, query, limit, "after", cursors["after"])
    return answer | {"paging": {"cursors": cursors, **links}}


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit") or str(DEFAULT_PAGE_SIZE)
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0:
        raise GraphError(100, f"limit must be a positive number, not {limit[:20]}")
    return int(limit)


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise GraphError(100, "the cursor is not one that the API issued") from None


def _link(url: str, query: Mapping[str, str], limit: int, direction: str, cursor: str) -> str:
    others: dict[str, Any] = {name: value for name, value in query.items() if name not in _PLACES}
    return f"{url}?{urlencode(others | {'limit': limit, direction: cursor})}"
