"""Times that people type and read."""

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl import moments
from bisnesctl.errors import UsageError

NOW = datetime(2026, 1, 31, 12, 0, 0).astimezone().timestamp()


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("2h ago", 7200)],
)
def test_a_duration_is_a_time_before_now(text: str, ago: int) -> None:
    assert moments.parse(text, "--since", NOW) == NOW - ago


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T08:30", datetime(2026, 1, 31, 8, 30).astimezone()),
        ("2026-01-31 08:30:15", datetime(2026, 1, 31, 8, 30, 15).astimezone()),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
        ("2026-01-31T08:30:00Z", datetime.fromisoformat("2026-01-31T08:30:00+00:00")),
        ("2026-01-31T08:30:00+02:00", datetime.fromisoformat("2026-01-31T08:30:00+02:00")),
        ("11:59", datetime(2026, 1, 31, 11, 59).astimezone()),
        ("12:01", datetime(2026, 1, 30, 12, 1).astimezone()),
    ],
)
def test_a_time_is_local_and_a_time_of_day_is_the_last_one(text: str, expected: datetime) -> None:
    assert moments.parse(text, "--since", NOW) == expected.timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "1y", "h", "2026-13-01", "-1h", "1h 30m"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"--since .*30m, 2h or 1d"):
        moments.parse(text, "--since", NOW)


@given(st.floats(0, 4e9))
def test_what_is_written_for_programs_is_read_as_the_same_time(at: float) -> None:
    assert abs(moments.parse(moments.iso(at), "--since") - at) < 0.001


def test_a_time_for_people_names_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert moments.shown(1_770_000_000) == "2026-02-02 03:40:00 CET"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_of_day_has_its_date_only_if_it_is_old() -> None:
    now = time.time()
    assert moments.clock(now - 60) == time.strftime("%H:%M %Z", time.localtime(now - 60))
    assert moments.clock(now - 90_000) == time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(now - 90_000))
