"""The line of a monitoring plugin. Imports almost nothing, so that it can be printed while something hangs."""

from bisnesctl.errors import BisnesError

#: The exit code of a check that found nothing out.
UNKNOWN = 3


def line(verdict: str, words: str, data: str = "") -> str:
    """The verdict in words, then performance data, which only a vertical bar divides from them."""
    said = " ".join(words.split()).replace("|", "/")
    return f"BISNES {verdict} - {said}{f' | {data}' if data else ''}"


def unknown(reason: str | Exception) -> tuple[int, str]:
    """The exit code and the line of a check that found nothing out. An unexpected error is named with its type."""
    is_expected = isinstance(reason, str | BisnesError | OSError)
    return UNKNOWN, line("UNKNOWN", str(reason) if is_expected else f"{type(reason).__name__}: {reason}")
