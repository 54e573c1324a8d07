"""The files that each kind of message may carry (Cloud API reference, "Media"), and the true types of files."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KB, MB = 1 << 10, 1 << 20

#: The type of what nobody knows.
UNKNOWN = "application/octet-stream"
#: Bytes at the beginning of a file from which its type is recognised.
HEAD = 4096


class MediaRefused(Exception):
    """A file cannot be sent as this kind of message; says what can, with a code for programs."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code  # unsupported_media or media_too_large


@dataclass(frozen=True, slots=True)
class Kind:
    """The files of a kind of message."""

    types: tuple[str, ...]  # MIME types without parameters; none: any
    limit: int  # bytes


KINDS: Mapping[str, Kind] = {
    "image": Kind(("image/jpeg", "image/png"), 5 * MB),
    "video": Kind(("video/mp4", "video/3gpp"), 16 * MB),
    "audio": Kind(("audio/ogg", "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr"), 16 * MB),
    "voice": Kind(("audio/ogg",), 16 * MB),
    "document": Kind((), 100 * MB),
    "sticker": Kind(("image/webp",), 500 * KB),
}

#: Bytes of a sticker that does not move.
STATIC_STICKER = 100 * KB

_EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif",
    "video/mp4": "mp4", "video/3gpp": "3gp", "video/quicktime": "mov",
    "audio/ogg": "ogg", "audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/aac": "aac", "audio/amr": "amr",
    "audio/wav": "wav", "application/pdf": "pdf", "application/zip": "zip", "application/gzip": "gz",
    "application/json": "json", "application/msword": "doc", "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt", "text/plain": "txt", "text/csv": "csv", "text/vcard": "vcf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
}  # fmt: skip
_SAME = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png",
    "video/3gp": "video/3gpp", "audio/mp3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4", "audio/opus": "audio/ogg", "audio/x-aac": "audio/aac", "audio/aacp": "audio/aac",
    "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "application/x-pdf": "application/pdf",
    "application/x-zip-compressed": "application/zip", "application/x-gzip": "application/gzip",
    "application/ogg": "audio/ogg", "video/x-m4v": "video/mp4",
}  # fmt: skip
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}", re.ASCII)


def normalise(mime_type: str | None) -> str:
    """A MIME type in small letters, without parameters and under its usual name; `UNKNOWN` for any other text."""
    bare = (mime_type or "").partition(";")[0].strip().lower()
    return _SAME.get(bare, bare) if _TYPE.fullmatch(bare) else UNKNOWN


def extension(mime_type: str) -> str:
    """The usual ending of files of this type, without a dot; `bin` for types that have none here."""
    return _EXTENSIONS.get(normalise(mime_type), "bin")


def check(kind: str, mime_type: str, size: int, animated: bool = True) -> None:
    """Raise `MediaRefused` unless a file of this type and size may be sent as `kind`, a key of `KINDS`.

    `animated`: whether a sticker moves (see `is_animated`), which gives it more room.
    """
    allowed = KINDS[kind]
    bare = normalise(mime_type)
    if allowed.types and bare not in allowed.types:
        choice = ", ".join(allowed.types)
        raise MediaRefused(f"a file of type {bare} cannot be sent as {kind}; it may be {choice}", "unsupported_media")
    limit = STATIC_STICKER if kind == "sticker" and not animated else allowed.limit
    if size > limit:
        name = "a sticker that does not move" if limit == STATIC_STICKER else f"a file sent as {kind}"
        amount = f"{limit // MB} MB" if limit >= MB else f"{limit // KB} KB"
        raise MediaRefused(f"{name} may have {amount}, this one has {size} bytes", "media_too_large")
    if size == 0:
        raise MediaRefused("the file is empty", "unsupported_media")


def is_animated(head: bytes) -> bool:
    """Whether a WebP moves, by its first `HEAD` bytes (WebP container specification: flag A of the chunk VP8X)."""
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x02)


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _is_mpeg_audio(head: bytes) -> bool:
    frame = len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6) and head[2] & 0xF0 != 0xF0
    return head.startswith(b"ID3") or frame


#: Boxes of no content, which may stand in front of the first one that says something (ISO/IEC 14496-12; QuickTime).
_EMPTY_BOXES = (b"free", b"skip", b"wide")
#: Boxes with which a QuickTime film without `ftyp` begins.
_FILM_BOXES = (b"moov", b"mdat", b"pnot")


def _first_box(head: bytes) -> bytes:
    """The first box that says something: from its name on."""
    place = 0
    while head[place + 4 : place + 8] in _EMPTY_BOXES:
        place += max(int.from_bytes(head[place : place + 4], "big"), 8)
    return head[place + 4 :]


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: (box := _first_box(head)).startswith(b"ftyp") and box[4:8].startswith(brands)


def _is_film(head: bytes) -> bool:
    return _first_box(head).startswith(_FILM_BOXES)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith((b"RIFF", b"RF64")) and head[8:12] == form


#: Types and how their files begin; the first that fits counts.
_SIGNATURES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("image/jpeg", _starts(b"\xff\xd8\xff")),
    ("image/png", _starts(b"\x89PNG\r\n\x1a\n")),
    ("image/gif", _starts(b"GIF87a", b"GIF89a")),
    ("image/webp", _riff(b"WEBP")),
    ("audio/wav", _riff(b"WAVE")),
    ("audio/ogg", lambda head: head.startswith(b"OggS") and b"OpusHead" in head and b"theora" not in head),
    ("video/ogg", _starts(b"OggS")),  # anything else in an Ogg: Vorbis, Theora
    ("audio/amr", _starts(b"#!AMR\n", b"#!AMR-WB\n")),
    ("audio/aac", lambda head: len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0),
    ("audio/mpeg", _is_mpeg_audio),
    ("video/3gpp", _brand(b"3g")),
    ("audio/mp4", _brand(b"M4A", b"M4B", b"M4P")),
    ("video/quicktime", _brand(b"qt")),
    ("image/avif", lambda head: _brand(b"avif", b"avis", b"mif1")(head) and b"avif" in head[:64]),
    ("image/heic", _brand(b"hei", b"hev", b"mif1", b"msf1")),
    ("video/mp4", _brand(b"")),
    ("video/quicktime", _is_film),
    ("application/pdf", _starts(b"%PDF-")),
    ("application/zip", _starts(b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK\x03\x04")),
    ("application/gzip", _starts(b"\x1f\x8b")),
)
_RECOGNISED = {mime_type for mime_type, _ in _SIGNATURES}
#: Types that the first bytes do not distinguish: the type that they show, and its other names.
_CALLED = {
    "video/mp4": ("audio/mp4",),
    "audio/mp4": ("video/mp4",),
    "video/3gpp": ("audio/3gpp", "audio/mp4", "video/mp4"),
    "audio/mpeg": ("audio/aac",),  # an ID3 tag may be in front of both
}  # fmt: skip
#: Containers of which many formats are made, office documents for example; the declared type says more.
_WRAPPERS = ("application/zip", "application/gzip")


#: Bytes at the beginning of a file within which readers of PDF look for its header (ISO 32000, implementation notes).
_PDF_HEADER_BYTES = 1024
#: Bytes without meaning in front of a file: a byte order mark, blanks, zeros.
_PADDING = re.compile(rb"(?:\xef\xbb\xbf|[\x00\t\n\x0c\r ])*")
_OFFICE = "application/vnd.openxmlformats-officedocument"
#: Office documents: the folder that each has in its ZIP archive.
_OFFICE_FOLDERS = (
    (b"word/", f"{_OFFICE}.wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}.spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}.presentationml.presentation"),
)
#: A ZIP archive whose first entry names its type (OpenDocument, EPUB).
_NAMED_ARCHIVE = re.compile(rb"PK\x03\x04.{26}mimetype([a-z]+/[a-z0-9.+-]+)", re.DOTALL)


def sniff(head: bytes) -> str | None:
    """The MIME type of a file that begins with these bytes (`HEAD` are enough); None for unknown ones."""
    found = _by_signature(head) or _behind_padding(head)
    return _content_of_archive(head) or found if found == "application/zip" else found


def true_type(head: bytes, declared: str | None) -> str:
    """The type of a file: by its first bytes, or else as its sender declares it.

    `UNKNOWN` for a file that is declared as something that its first bytes would show.
    """
    claimed, found = normalise(declared), sniff(head)
    if found is None and claimed in ("application/pdf", UNKNOWN) and _has_pdf_header(head):
        return "application/pdf"
    if found is None:
        return UNKNOWN if claimed in _RECOGNISED else claimed
    if claimed in _CALLED.get(found, ()) or (found in _WRAPPERS and claimed not in _RECOGNISED | {UNKNOWN}):
        return claimed
    return found


def _by_signature(head: bytes) -> str | None:
    return next((mime_type for mime_type, fits in _SIGNATURES if fits(head)), None)


def _behind_padding(head: bytes) -> str | None:
    """The type of a PDF or an MP3 behind bytes without meaning; players and readers skip them."""
    padding = _PADDING.match(head)
    found = _by_signature(head[padding.end() :]) if padding and padding.end() else None
    return found if found in ("application/pdf", "audio/mpeg") else None


def _has_pdf_header(head: bytes) -> bool:
    return b"%PDF-" in head[: _PDF_HEADER_BYTES + 5] or (head.startswith(b"%!PS-Adobe-") and b" PDF-" in head[:40])


def _content_of_archive(head: bytes) -> str | None:
    """The type of the document that a ZIP archive is."""
    if named := _NAMED_ARCHIVE.match(head):
        return named[1].decode()
    if b"[Content_Types].xml" not in head and b"_rels/" not in head:
        return None
    return next((mime_type for folder, mime_type in _OFFICE_FOLDERS if folder in head), None)
