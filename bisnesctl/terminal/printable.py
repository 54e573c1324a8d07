r"""Makes the words of others fit for a terminal: what would move the cursor, change its colours or reorder a line is
shown as an escape, such as `\x1b` or `\u202e`. Joiners, emoji and directional marks of names stay.
"""

import json
import re

#: C0, DEL, C1, separators of lines and paragraphs, embeddings, overrides and isolates of direction, annotations,
#: surrogates and byte-order marks.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\ufeff]")
#: The same without the end of a line and the tab, which a terminal shows as meant.
_UNFIT_IN_LINES = re.compile(_UNFIT.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
#: A colour of a log line.
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_NAMES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def is_fit(text: str) -> bool:
    """Whether a line may be written as it is."""
    return _UNFIT.search(text) is None


def one_line(text: str) -> str:
    """The text in one line."""
    return _UNFIT.sub(lambda found: _escape(found[0]), text)


def lines(text: str) -> str:
    """The text in as many lines as it has."""
    return _UNFIT_IN_LINES.sub(lambda found: _escape(found[0]), text)


def log_line(text: str) -> str:
    """A line of a log, with its colours."""
    return "".join(part if _COLOUR.fullmatch(part) else one_line(part) for part in _COLOUR.split(text.expandtabs(8)))


def as_json(value: object, indent: int | None = 2) -> str:
    """JSON that reads as it stands, and means the same to a program."""
    text = json.dumps(value, indent=indent, default=str, ensure_ascii=False)
    return _UNFIT_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(sign: str) -> str:
    code = ord(sign)
    return _NAMES.get(sign) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
