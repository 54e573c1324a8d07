"""Names that people gave themselves, their groups and their files, made fit to be stored, shown and sent in headers.

People's words are cleaned, never refused: a name may join emoji (ZWJ), mix directions of writing (RLM) and have any
blanks, and Unicode gains letters every year.
"""

import unicodedata

#: Characters in a name; the columns of the history have room for 255.
MAX_NAME_CHARACTERS = 255
#: Bytes in the name of a file; file systems have room for 255.
MAX_FILE_NAME_BYTES = 255
#: Characters in the ending of a file's name that is kept when the name is cut.
MAX_ENDING_CHARACTERS = 16

# Embeddings, overrides and isolates reorder the text around them: `photo_gpj.exe` would be shown as `photo_exe.jpg`.
# Marks of direction (LRM, RLM, ALM) do not.
_REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_INVISIBLE = {0xFEFF, 0xFFFE, 0xFFFF}
#: Replacements of the characters that no name may have: blanks for breaks of lines, nothing for the others.
_CLEANED: dict[int, str | None] = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), *_REORDERING, *_INVISIBLE}
) | dict.fromkeys((0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029), " ")
_SEPARATORS = str.maketrans("/\\", "__")
_ZERO_WIDTH_JOINER = "\u200d"
#: Categories of characters without a shape of their own.
_WITHOUT_SHAPE = {"Cf", "Zs", "Mn", "Me"}


def person_name(value: object) -> str | None:
    """A person's or a group's name, cleaned and cut; None if nothing of it can be seen."""
    name = _clean(value)
    return _cut(name, MAX_NAME_CHARACTERS) if name else None


def file_name(value: object) -> str | None:
    """The name of a file, as every disk can store it; None if nothing of it can be seen."""
    name = _clean(value).translate(_SEPARATORS).strip(". ")
    if not name or len(name.encode()) <= MAX_FILE_NAME_BYTES:
        return name or None
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > MAX_ENDING_CHARACTERS:
        stem, dot, ending = name, "", ""
    room = MAX_FILE_NAME_BYTES - len((dot + ending).encode())
    return _cut(stem, len(stem.encode()[:room].decode(errors="ignore"))) + dot + ending


def _clean(value: object) -> str:
    name = value.translate(_CLEANED).strip(" ") if isinstance(value, str) else ""
    return name if any(unicodedata.category(sign) not in _WITHOUT_SHAPE for sign in name) else ""


def _cut(name: str, length: int) -> str:
    """The beginning of a name, at most that long, without a part of an emoji or of a letter with marks at its end."""
    if len(name) <= length:
        return name
    end = length
    while end > 1 and _belong_together(name, end):
        end -= 1
    return name[: end if end > 1 else length].rstrip(" ")


def _belong_together(name: str, place: int) -> bool:
    """Whether a person sees the characters before and after a place as one."""
    before, after = name[place - 1], name[place]
    if _is_flag_letter(before) and _is_flag_letter(after):
        letters = len(name[:place]) - len(name[:place].rstrip("".join(map(chr, range(0x1F1E6, 0x1F200)))))
        return letters % 2 == 1
    return (
        _ZERO_WIDTH_JOINER in (before, after)
        or unicodedata.category(after) in ("Mn", "Me", "Mc")
        or 0x1F3FB <= ord(after) <= 0x1F3FF  # colours of skin
        or 0xE0020 <= ord(after) <= 0xE007F  # the tags of regional flags
    )


def _is_flag_letter(sign: str) -> bool:
    return 0x1F1E6 <= ord(sign) < 0x1F200
