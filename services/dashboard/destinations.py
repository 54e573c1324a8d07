"""The page to which a form leads, so that no link can lead people to another site."""

from urllib.parse import urlsplit


def own_page(target: str) -> str | None:
    """The path and query of a page of ours; None for all else."""
    parts = urlsplit(target)
    is_own = target.startswith("/ui/") and "\\" not in target and not parts.scheme and not parts.netloc
    return target if is_own and target.isprintable() else None
