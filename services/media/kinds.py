"""The files that each kind of message may carry (Cloud API reference, "Media"), and the true types of files."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KB, MB = 1 << 10, 1 << 20

#: The type of what nobody knows.
UNKNOWN = "application/octet-stream"
#: Bytes at the beginning of a file from which its type is recognised.
HEAD = 512


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


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12].startswith(brands)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(b"RIFF") and head[8:12] == form


#: Types and how their files begin; the first that fits counts.
_SIGNATURES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("image/jpeg", _starts(b"\xff\xd8\xff")),
    ("image/png", _starts(b"\x89PNG\r\n\x1a\n")),
    ("image/gif", _starts(b"GIF87a", b"GIF89a")),
    ("image/webp", _riff(b"WEBP")),
    ("audio/wav", _riff(b"WAVE")),
    ("audio/ogg", lambda head: head.startswith(b"OggS") and b"OpusHead" in head[:64]),
    ("video/ogg", _starts(b"OggS")),  # anything else in an Ogg: Vorbis, Theora
    ("audio/amr", _starts(b"#!AMR\n", b"#!AMR-WB\n")),
    ("audio/aac", lambda head: len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0),
    ("audio/mpeg", _is_mpeg_audio),
    ("video/3gpp", _brand(b"3g")),
    ("audio/mp4", _brand(b"M4A", b"M4B")),
    ("video/quicktime", _brand(b"qt")),
    ("image/heic", _brand(b"heic", b"heix", b"mif1", b"msf1")),
    ("image/avif", _brand(b"avif", b"avis")),
    ("video/mp4", lambda head: head[4:8] == b"ftyp"),
    ("application/pdf", _starts(b"%PDF-")),
    ("application/zip", _starts(b"PK\x03\x04", b"PK\x05\x06")),
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


def sniff(head: bytes) -> str | None:
    """The MIME type of a file that begins with these bytes (`HEAD` are enough); None for unknown ones."""
    return next((mime_type for mime_type, fits in _SIGNATURES if fits(head)), None)


def true_type(head: bytes, declared: str | None) -> str:
    """The type of a file: by its first bytes, or else as its sender declares it.

    `UNKNOWN` for a file that is declared as something that its first bytes would show.
    """
    claimed, found = normalise(declared), sniff(head)
    if found is None:
        return UNKNOWN if claimed in _RECOGNISED else claimed
    if claimed in _CALLED.get(found, ()) or (found in _WRAPPERS and claimed not in _RECOGNISED | {UNKNOWN}):
        return claimed
    return found
