"""Names of people: everything that a person wrote stays, what could deceive or break goes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.display_names import MAX_NAME_CHARACTERS, person_name

WOMAN_CODING = "\U0001f469\u200d\U0001f4bb"


@pytest.mark.parametrize(
    "name",
    [
        f"Ana {WOMAN_CODING}",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # with ZWNJ
        "\u05d3\u05e0\u05d4\u200f!",  # with RLM
        "Ana\u00a0María",
        "山田\u3000太郎",
        "New \U0001fae9\U0001fadf",  # emoji of Unicode 16
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "O'Neil & Söhne <GmbH>",
        "Zoe\u0301",
    ],
)
def test_what_people_call_themselves_is_kept(name):
    assert person_name(name) == name


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("Line\nBreak", "Line Break"),
        ("Tab\tHere", "Tab Here"),
        ("a\x00b\x1bc\x7fd\x9be", "abcde"),
        ("two\u2028lines", "two lines"),
        ("photo_\u202egpj.exe", "photo_gpj.exe"),
        ("a\u2066b\u2069", "ab"),
        ("\ufeffAna", "Ana"),
        ("  Ana  ", "Ana"),
    ],
)
def test_control_characters_and_what_reorders_the_text_is_removed(raw, kept):
    assert person_name(raw) == kept


@pytest.mark.parametrize("raw", ["", "   ", "\n", "\u200d", "\u200f\u200e", "\u00a0", None, 5, ["Ana"]])
def test_a_name_of_which_nothing_can_be_seen_is_none(raw):
    assert person_name(raw) is None


@pytest.mark.parametrize("last", [WOMAN_CODING, "o\u0301\u0323", "\U0001f44d\U0001f3fd", "\U0001f1f2\U0001f1fe"])
def test_an_overlong_name_is_cut_between_two_signs(last):
    for length in range(250, 260):
        cut = person_name("n" * length + last + "end" * 90)
        assert cut is not None
        assert len(cut) <= MAX_NAME_CHARACTERS
        assert cut.strip("end") in ("", last)


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_any_text_becomes_a_name_that_fits(raw):
    name = person_name(raw)
    assert person_name(name) == name
    if name is not None:
        assert 0 < len(name) <= MAX_NAME_CHARACTERS
        assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name)
