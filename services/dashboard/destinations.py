"""Addresses of pages: the next page of a list, and that to which a form leads, which is never on another site."""

from urllib.parse import urlencode, urlsplit

from flask import request, url_for


def own_page(target: str) -> str | None:
    """The path and query of a page of ours; None for all else."""
    parts = urlsplit(target)
    is_own = target.startswith("/ui/") and "\\" not in target and not parts.scheme and not parts.netloc
    return target if is_own and target.isprintable() else None


def following_page(endpoint: str, **position: object) -> str:
    """The address of the same list, filtered alike, from a position on."""
    return f"{url_for(endpoint)}?{urlencode(request.args.to_dict() | position)}"
