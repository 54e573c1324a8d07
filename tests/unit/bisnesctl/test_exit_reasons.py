"""The last words of a process that ended."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bisnesctl.health.exit_reasons import MAX_REASON_LENGTH, find_crash, find_reason, find_words, manner
from bisnesctl.logs.formats import parse_fields


def line(seconds_ago: float, level: str, rest: str) -> str:
    at = datetime.fromtimestamp(time.time() - seconds_ago, UTC).isoformat().replace("+00:00", "Z")
    return f"timestamp={at} level={level} event=session.locked {rest}\n"


def test_the_reason_is_that_of_the_last_error(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(
        line(3, "error", 'reason="the first"')
        + line(2, "error", r'reason="another process has \"this\" number"')
        + line(1, "info", 'reason="not an error"')
    )
    assert find_reason(tmp_path, "x", lived=5.0) == 'another process has "this" number'


def test_an_error_that_names_nothing_is_no_reason(tmp_path: Path) -> None:
    said = line(2, "error", "bot=3").replace("event=session.locked ", "")
    (tmp_path / "x.log").write_text(said)
    assert find_reason(tmp_path, "x", lived=5.0) == ""


def test_logs_that_cannot_be_read_have_no_reason(tmp_path: Path) -> None:
    for name in ("x.log", "x.err.log", "supervisord.log"):
        (tmp_path / name).mkdir()
    assert (find_reason(tmp_path, "x", lived=5.0), find_crash(tmp_path, "x")) == ("", "")


def test_an_error_of_an_earlier_life_is_no_reason(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(line(20, "error", 'reason="long ago"'))
    assert find_reason(tmp_path, "x", lived=5.0) == ""
    assert find_reason(tmp_path, "x", lived=25.0) == "long ago"


def test_an_error_long_before_the_end_is_no_reason(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(line(600, "error", 'reason="long ago"'))
    assert find_reason(tmp_path, "x", lived=5000.0) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            'Traceback (most recent call last):\n  File "x"\nRuntimeError: a broken release\n',
            "RuntimeError: a broken release",
        ),
        ("it needs a file: run it again\n\n", "it needs a file: run it again"),
        (
            "ValueError: bad\n[2026-01-31 12:00:00 +0000] [9] [ERROR] Reason: Worker failed to boot.\n",
            "ValueError: bad",
        ),
        ("", ""),
    ],
)
def test_without_a_logged_error_the_standard_error_counts(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.err.log").write_text(text)
    assert find_reason(tmp_path, "x", lived=5.0) == reason
    os.utime(tmp_path / "x.err.log", (time.time() - 60, time.time() - 60))
    assert find_reason(tmp_path, "x", lived=5.0) == ""


def test_a_logged_exception_gives_its_last_line(tmp_path: Path) -> None:
    text = line(1, "error", r'exception="Traceback …:\n  File \"x\"\nKeyError: \"y\""')
    (tmp_path / "x.log").write_text(text)
    assert find_reason(tmp_path, "x", lived=5.0) == 'KeyError: "y"'


def test_logs_that_are_missing_or_damaged_give_no_reason(tmp_path: Path) -> None:
    assert find_reason(tmp_path, "x", lived=5.0) == ""
    (tmp_path / "x.log").write_bytes(b'timestamp=never level=error event=x reason="\xff\nlevel=error\n')
    assert find_reason(tmp_path, "x", lived=5.0) == ""


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    (tmp_path / "x.err.log").write_text("e" * 1000)
    assert len(find_reason(tmp_path, "x", lived=5.0)) == MAX_REASON_LENGTH


def test_fields_are_read_as_logfmt_writes_them() -> None:
    assert parse_fields(r'level=error reason="a \"b\" c=d" n=3') == {"level": "error", "reason": 'a "b" c=d', "n": "3"}


def test_a_killed_process_has_the_signal_for_its_reason_and_no_earlier_error(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text(line(1, "error", 'reason="an earlier error"'))
    supervisord = tmp_path / "supervisord.log"
    assert find_crash(tmp_path, "x") == "an earlier error"
    assert manner(-1, find_words(tmp_path, "x", -1, 5.0)) == "it was killed"
    supervisord.write_text("2026-01-31 12:00:01,000 WARN exited: x (terminated by SIGKILL; not expected)\n")
    assert find_crash(tmp_path, "x") == "killed by SIGKILL"
    assert manner(-1, find_words(tmp_path, "x", -1, 5.0)) == "it was killed by SIGKILL"
    assert manner(3, find_words(tmp_path, "x", 3, 5.0)) == "it ended with exit status 3: an earlier error"
