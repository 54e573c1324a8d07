"""The texts of the pages: one file for each language, `texts/<language>.toml`, with the same keys.

A text may have placeholders, such as `{count}`. Texts of the product itself (reasons, log lines, errors) are English in
every language.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from flask import g, request

#: The language of people who want none of the others.
DEFAULT = "en"
#: The cookie with the language that a person chose.
COOKIE = "language"
_FOLDER = Path(__file__).with_name("texts")


@cache
def languages() -> tuple[str, ...]:
    """The languages that there are, the default first."""
    found = sorted(each.stem for each in _FOLDER.glob("*.toml"))
    return (DEFAULT, *(each for each in found if each != DEFAULT))


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """All texts of a language by key, such as `sign_in.title`."""
    content = tomllib.loads((_FOLDER / f"{language}.toml").read_text())
    return {f"{section}.{key}": str(text) for section, texts in content.items() for key, text in texts.items()}


def language() -> str:
    """The language of the request: the chosen one, or what the browser prefers."""
    if "language" not in g:
        chosen = request.cookies.get(COOKIE, "")
        known = languages()
        g.language = chosen if chosen in known else request.accept_languages.best_match(known, DEFAULT)
    return str(g.language)


def text(key: str, **values: object) -> str:
    """A text in the language of the request, with its placeholders filled in. Raises `KeyError` for an unknown key."""
    return catalogue(language())[key].format(**values)


def counted(key: str, count: int, **values: object) -> str:
    """The text `<key>_one` for one thing, or `<key>_other`, with the placeholder `count`."""
    return text(f"{key}_{'one' if count == 1 else 'other'}", count=count, **values)
