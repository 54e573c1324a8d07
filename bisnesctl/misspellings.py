"""Finds the setting that a misspelt name means, without suspecting the names of other programs.

Names are compared word by word. A name is a misspelling if it differs in underscores only, or in one word that is a
plural, a beginning, or has one or two typing errors. In short names, another letter makes another word: `APP_PORT` may
belong to another program, `API_PROT` is a misspelling.
"""

from functools import cache, lru_cache

#: Names whose outcome is kept, at most: the same ones are asked for whenever the settings are read again.
MAX_KEPT = 500
#: Letters that a word must have so that a wrong letter in it counts as a typing error.
LONG_WORD = 5
#: Letters that the other words must have together so that a wrong letter in a short word counts as a typing error.
LONG_REST = 5
#: Letters of a word's beginning that may stand for the word, such as PASS for PASSWORD.
SHORTEST_BEGINNING = 4


@lru_cache(MAX_KEPT)
def nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that `name` misspells; None if it is probably a name of another program."""
    given = _words(name.upper())
    found = [each for each in known if _misspells(given, _words(each))]
    return min(found, key=lambda each: distance(name.upper(), each), default=None)


@cache
def _words(name: str) -> tuple[str, ...]:
    return tuple(name.split("_"))


def _misspells(given: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if len(given) != len(wanted):
        return "".join(given) == "".join(wanted)  # they differ in underscores only
    different = [pair for pair in zip(given, wanted, strict=True) if pair[0] != pair[1]]
    if len(different) != 1:
        return "".join(given) == "".join(wanted)
    word, right = different[0]
    return _is_typo(word, right, rest=sum(map(len, wanted)) - len(right))


def _is_typo(word: str, right: str, rest: int) -> bool:
    if not word:
        return False
    if len(word) >= SHORTEST_BEGINNING and right.startswith(word):
        return rest > 0
    errors = distance(word, right)
    long = min(len(word), len(right)) >= LONG_WORD
    if len(word) == len(right) and sorted(word) != sorted(right):  # another letter, not another order
        return errors == 1 and (long or rest >= LONG_REST)
    return errors <= (2 if long else 1)


def distance(one: str, other: str) -> int:
    """The number of letters to insert, to delete, to replace or to swap with their neighbour."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
