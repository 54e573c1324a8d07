"""Names of files: as people, programs and servers write them, made safe for disks, headers and the providers."""

import mimetypes
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import quote, unquote, urlsplit

from services.media import kinds

#: Limit of a name, in characters.
MAX_CHARACTERS = 240
#: Limit of a name in UTF-8; disks take no longer ones.
MAX_BYTES = 255
#: Characters at the end of a name that are kept if it is cut, because they include its ending.
_KEPT_CHARACTERS = 20

#: Unicode categories of what is no part of a name: control characters, line and paragraph breaks, halves of characters.
_REMOVED_CATEGORIES = ("Cc", "Zl", "Zp", "Cs")
#: Signs that reverse the direction of text: they let an ending look like another one.
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Endings of programs that generate files; they say nothing about the files.
_PROGRAMS = ("php", "asp", "aspx", "ashx", "axd", "jsp", "do", "cgi", "cfm", "pl", "py", "dll", "exe", "action")
#: Dots and blanks around a name: some systems hide such files, others cannot store them.
_AROUND = re.compile(r"^[\s.]+|[\s.]+$")
_ENDING = re.compile(r"\.([A-Za-z0-9]{1,8})$", re.ASCII)

_PARAMETER = re.compile(r"(?:^|;)\s*(filename\*?)\s*=\s*(\"(?:[^\"\\]|\\.)*\"?|[^;]*)", re.IGNORECASE)
_EXTENDED = re.compile(r"([A-Za-z0-9_.:-]+)'[^']*'(.*)", re.ASCII | re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_ENCODED_WORD = re.compile(r"=\?[^?]+\?[bBqQ]\?[^?]*\?=", re.ASCII)


def safe(text: str | None) -> str | None:
    """A name without folders and without signs that are no part of a name; None if nothing remains.

    Everything that a person may write is kept: letters of all scripts, emoji with their joiners, blanks of any width.
    A name that is too long is cut before its ending.
    """
    last = re.split(r"[/\\]", text or "")[-1]
    kept = _AROUND.sub("", "".join(sign for sign in last if not _is_removed(sign)))
    if not kept:
        return None
    if len(kept) > MAX_CHARACTERS:
        kept = kept[: MAX_CHARACTERS - _KEPT_CHARACTERS] + kept[-_KEPT_CHARACTERS:]
    return _within_bytes(kept)


def _is_removed(sign: str) -> bool:
    return sign in _OVERRIDES or unicodedata.category(sign) in _REMOVED_CATEGORIES


def _within_bytes(name: str) -> str:
    if (excess := len(name.encode()) - MAX_BYTES) <= 0:
        return name
    ending = found[0] if (found := _ENDING.search(name)) else ""
    stem = name[: len(name) - len(ending)].encode()[: -excess or None]
    return stem.decode(errors="ignore").rstrip() + ending


def of_url(url: str) -> str | None:
    """The name of the file at an address, if the last part of its path is one: not of a program that generates it."""
    try:
        name = safe(unquote(urlsplit(url).path))
    except ValueError:
        return None
    found = _ENDING.search(name) if name else None
    return name if found and found[1].lower() not in _PROGRAMS else None


def of_header(value: bytes) -> str | None:
    """The name in a Content-Disposition, as browsers read it (RFC 6266, and the mistakes of servers)."""
    given: dict[str, str] = {}
    for parameter, content in _PARAMETER.findall(_decoded(value)):
        given.setdefault(parameter.lower(), content)
    extended = _extended(_unquoted(given.get("filename*", "")))
    return safe(extended) or safe(_plain(_unquoted(given.get("filename", ""))))


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _unquoted(content: str) -> str:
    if content.startswith('"'):
        return _ESCAPED.sub(r"\1", content[1:].removesuffix('"'))
    return content.strip().strip("'") if content.strip().startswith("'") else content.strip()


def _extended(content: str) -> str | None:
    """The value of filename*, such as UTF-8''%E2%82%AC (RFC 8187)."""
    found = _EXTENDED.fullmatch(content)
    if found is None:
        return None
    try:
        return unquote(found[2], encoding=found[1], errors="strict")
    except (LookupError, UnicodeDecodeError):
        return None


def _plain(content: str) -> str:
    """The value of filename. Servers write it encoded as in a mail (RFC 2047) or in an address, too."""
    if _ENCODED_WORD.search(content):
        try:
            return str(make_header(decode_header(content)))
        except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError):
            return content
    try:
        return unquote(content, errors="strict")
    except UnicodeDecodeError:
        return content


def with_ending(name: str, mime_type: str) -> str:
    """The name with the ending of this type, if it has none or that of a program."""
    found, ending = _ENDING.search(name), kinds.extension(mime_type)
    if found is None:
        known = mimetypes.guess_type(name)[0] is not None
        return name if known or ending == "bin" else f"{name}.{ending}"
    return f"{name[: found.start()]}.{ending}" if found[1].lower() in _PROGRAMS and ending != "bin" else name


def as_header(disposition: str, name: str) -> str:
    """A Content-Disposition with a name (RFC 6266): for old programs, its signs beyond ASCII are replaced."""
    plain = "".join(sign if " " <= sign <= "~" and sign not in '"\\%' else "_" for sign in name)
    parameters = f'{disposition}; filename="{plain}"'
    return parameters if plain == name else f"{parameters}; filename*=UTF-8''{quote(name, safe='')}"
