r"""Reads an `.env`: values stand for themselves, or the line is refused with the way to write it.

    NAME=value             the rest of the line, without blanks at its ends
    NAME='value'           everything between the quotes
    NAME="value"           the same, but \" means " and \\ means \

Nothing is replaced or dropped silently: `${…}`, another backslash in double quotes, and a comment after a value that
might belong to it are errors. Lines of other programs in the same file are ignored, in any form.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)", re.DOTALL)
_COMMENT = re.compile(r"\s*(?:#.*)?", re.DOTALL)
_REFERENCE = re.compile(r"\$\{")
_SINGLE = "write it in single quotes: NAME='value'"


@dataclass(frozen=True)
class Line:
    """One assignment to a known name. Its value may be wrong."""

    number: int
    name: str
    value: str = ""
    #: Why the value is refused; empty if it is not.
    problem: str = ""


@dataclass(frozen=True)
class EnvFile:
    """The content of an `.env`."""

    lines: list[Line]
    #: Names that are not known, with the number of their line.
    others: dict[str, int]
    #: Lines that are no assignments.
    unreadable: list[int]


def parse(text: str, known: Callable[[str], bool], free_text: Callable[[str], bool]) -> EnvFile:
    """The assignments of a file.

    `known`: whether a name is one of ours. `free_text`: whether its value may be any text, so that `#` after a blank
    may belong to the value.
    """
    file = EnvFile([], {}, [])
    source = _Source(text.removeprefix("\ufeff"))
    for number, line in source:
        if _COMMENT.fullmatch(line):
            continue
        found = _ASSIGNMENT.fullmatch(line)
        if found is None:
            file.unreadable.append(number)
        elif known(found[1]):
            file.lines.append(_parse_line(number, found[1], found[2], free_text(found[1])))
        else:
            file.others.setdefault(found[1], number)
            source.skip_quoted(found[2], known)
    return file


class _Source:
    """The lines of a text with their numbers, from 1."""

    def __init__(self, text: str) -> None:
        self._lines = [line.removesuffix("\r") for line in text.split("\n")]
        self._next = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while self._next < len(self._lines):
            self._next += 1
            yield self._next, self._lines[self._next - 1]

    def skip_quoted(self, value: str, known: Callable[[str], bool]) -> None:
        """Skips the further lines of another program's value in quotes, unless they have one of our names."""
        quote = value[:1]
        if quote not in ("'", '"') or _closes(value[1:], quote):
            return
        for index in range(self._next, len(self._lines)):
            found = _ASSIGNMENT.fullmatch(self._lines[index])
            if found is not None and known(found[1]):
                return
            if _closes(self._lines[index], quote):
                self._next = index + 1
                return


def _closes(text: str, quote: str) -> bool:
    """Whether a text ends with a quote that no backslash precedes, and perhaps a comment."""
    return re.search(rf"(?<!\\){quote}\s*(?:#.*)?$", text) is not None


def _parse_line(number: int, name: str, text: str, free_text: bool) -> Line:
    try:
        if "\0" in text:
            raise ValueError("has a NUL character")
        if text[:1] in ("'", '"'):
            return Line(number, name, _quoted(text))
        return Line(number, name, _unquoted(text, free_text))
    except ValueError as error:
        return Line(number, name, problem=str(error))


def _quoted(text: str) -> str:
    quote, pattern = text[0], r"'([^']*)'(.*)" if text[0] == "'" else r'"((?:[^"\\]|\\.)*)"(.*)'
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None:
        raise ValueError(f"has no closing {quote} on its line; a value that has one kind of quotes goes in the other")
    value, rest = found[1], found[2]
    if not _COMMENT.fullmatch(rest) or rest.startswith("#"):
        raise ValueError(f"has text after the closing {quote}; a value that has one kind of quotes goes in the other")
    if quote == "'":
        return value
    if _REFERENCE.search(value):
        raise ValueError(f"has ${{…}}, which is not replaced by a variable; if it belongs to the value, {_SINGLE}")
    if re.search(r'\\[^"\\]', re.sub(r'\\["\\]', "", value)):
        raise ValueError(f"has a backslash in double quotes; {_SINGLE}")
    return re.sub(r'\\(["\\])', r"\1", value)


def _unquoted(text: str, free_text: bool) -> str:
    value = text.strip()
    if _REFERENCE.search(value):
        raise ValueError(f"has ${{…}}, which is not replaced by a variable; if it belongs to the value, {_SINGLE}")
    comment = re.search(r"(?:^|\s)#", value)
    if comment is None:
        return value
    if free_text and comment.start() > 0:
        raise ValueError(
            f"has # after a blank; if it belongs to the value, {_SINGLE}; a comment goes on a line of its own"
        )
    if free_text and not value.startswith("# "):
        raise ValueError(f"begins with #; if it belongs to the value, {_SINGLE}")
    return value[: comment.start()].rstrip()
