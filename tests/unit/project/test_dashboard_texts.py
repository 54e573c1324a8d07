"""The texts of the dashboard: every language has each of them, and the pages use those that there are."""

import re
from pathlib import Path
from string import Formatter

import pytest

from services.dashboard import texts
from services.dashboard.navigation import PAGES

FOLDER = Path(texts.__file__).parent
CALL = re.compile(r"""\b(tn?|text|counted)\(\s*'?"?([a-z_]+\.[a-z0-9_]+)['"]""")


def placeholders(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", texts.languages())
def test_every_language_has_the_same_keys_and_placeholders(language):
    own, default = texts.catalogue(language), texts.catalogue(texts.DEFAULT)
    assert own.keys() == default.keys()
    assert {key: placeholders(text) for key, text in own.items()} == {
        key: placeholders(text) for key, text in default.items()
    }


def used():
    for file in [*FOLDER.glob("templates/*.html"), *FOLDER.glob("**/*.py")]:
        for name, key in CALL.findall(file.read_text()):
            yield from [f"{key}_one", f"{key}_other"] if name in ("tn", "counted") else [key]
    yield from (f"menu.{page.replace('.', '_')}" for page in PAGES)


def test_every_text_that_is_used_exists():
    assert set(used()) <= texts.catalogue(texts.DEFAULT).keys()
