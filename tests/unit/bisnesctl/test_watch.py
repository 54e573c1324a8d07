"""The keys of `--watch`."""

import os
import sys

import pytest

from bisnesctl.terminal import watch
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def typed(monkeypatch):
    """Types keys at once, and returns what `--watch` made of them."""
    reading, writing = os.pipe()

    def press(keys, seconds):
        os.write(writing, keys)
        return watch._key_within(seconds)

    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield press
        os.close(writing)


@pytest.mark.parametrize("keys", [b"q", b"Q", b"xq", b"\x1b[Aq"])
def test_q_ends_whatever_was_typed_before(typed, keys):
    assert typed(keys, HANG_SECONDS) == "q"


def test_other_keys_end_nothing(typed):
    assert typed(b"xyz", 0.1) == ""
