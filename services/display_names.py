"""Names that people gave themselves and their groups, made fit to be stored and shown.

People's words are cleaned, never refused: a name may join emoji (ZWJ), mix directions of writing (RLM) and have any
blanks, and Unicode gains letters every year.
"""

import unicodedata

#: Characters in a name; the columns of the history have room for 255.
MAX_NAME_CHARACTERS = 255

# Embeddings, overrides and isolates reorder the text around them, so that a name looks like another one.
# Marks of direction (LRM, RLM, ALM) do not.
_REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_INVISIBLE = {0xFEFF, 0xFFFE, 0xFFFF}
#: Replacements of the characters that no name may have: blanks for breaks of lines, nothing for the others.
_CLEANED: dict[int, str | None] = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), *_REORDERING, *_INVISIBLE}
) | dict.fromkeys((0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029), " ")
_ZERO_WIDTH_JOINER = "\u200d"
#: Categories of characters without a shape of their own.
_WITHOUT_SHAPE = {"Cf", "Zs", "Mn", "Me"}


def person_name(value: object) -> str | None:
    """A person's or a group's name, cleaned and cut; None if nothing of it can be seen."""
    name = _clean(value)
    return _cut(name) if name else None


def _clean(value: object) -> str:
    name = value.translate(_CLEANED).strip(" ") if isinstance(value, str) else ""
    return name if any(unicodedata.category(sign) not in _WITHOUT_SHAPE for sign in name) else ""


def _cut(name: str) -> str:
    """The beginning of a long name, without a part of an emoji or of a letter with marks at its end."""
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    end = MAX_NAME_CHARACTERS
    while end > 1 and _belong_together(name, end):
        end -= 1
    return name[: end if end > 1 else MAX_NAME_CHARACTERS].rstrip(" ")


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
