"""Shared parts of the networks' pages for people: style, headers, limits."""

import time
from importlib import resources

#: Messages of each side on a page.
MAX_SHOWN_MESSAGES = 500
#: Reactions to choose from.
EMOJI = ("👍", "❤️", "😂", "😮", "😢", "🙏")
#: Messages cannot run or load anything from elsewhere.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
#: For files that a customer sent: a browser must not run one as a page of ours.
FILE_HEADERS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
STYLE = resources.files(__package__).joinpath("control_page.css").read_text("utf-8")


def clock(at: float) -> str:
    """The time of day in this machine's time zone."""
    return time.strftime("%H:%M:%S", time.localtime(at))
