"""Reading log files to the last line, across rotations, and deaths in supervisord's log."""

import tempfile
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.logs import exits
from bisnesctl.logs.exits import Exits
from bisnesctl.logs.files import tail
from bisnesctl.logs.follow import Follower


def test_the_tail_of_a_long_file_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"{number} " + "x" * 100 for number in range(5000)]
    path.write_text("\n".join(lines) + "\n")
    assert tail(path, 3) == lines[-3:]
    assert tail(path, 10_000) == lines
    assert tail(path, 0) == []


def test_the_tail_of_a_missing_or_empty_file_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none", 5) == []
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "empty", 5) == []


def test_a_last_line_without_an_end_is_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a\nb")
    assert tail(tmp_path / "log", 2) == ["a", "b"]


def test_a_follower_begins_at_the_end_and_gives_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    follower = Follower(path)
    with path.open("a") as stream:
        stream.write("one\ntw")
    assert follower.lines() == ["one"]
    with path.open("a") as stream:
        stream.write("o\n")
    assert follower.lines() == ["two"]
    assert follower.lines() == []


def test_a_follower_loses_nothing_when_the_file_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    follower = Follower(path)
    path.write_text("old\n")
    path.rename(tmp_path / "log.1")
    path.write_text("new\n")
    assert follower.lines() == ["old", "new"]


def test_a_follower_waits_for_its_file_and_survives_its_emptying(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    assert follower.lines() == []
    path.write_text("a long first line\n")
    assert follower.lines() == ["a long first line"]
    path.write_text("short\n")
    assert follower.lines() == ["short"]


@given(
    st.lists(
        st.tuples(st.booleans(), st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)),
        max_size=20,
    )
)
def test_a_follower_returns_whole_lines_however_writes_are_split(pieces: list[tuple[bool, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.touch()
        follower, got = Follower(path), []
        for ends, text in pieces:
            with path.open("a", encoding="utf-8", newline="") as stream:
                stream.write(text + ("\n" if ends else ""))
            got += follower.lines()
        follower.close()
        assert got == path.read_bytes().decode().split("\n")[:-1]


BOOT = "2026-01-31 12:00:00,000 INFO supervisord started with pid 5"
KILLED = "2026-01-31 12:00:01,000 WARN exited: api-0 (terminated by SIGKILL; not expected)"
FAILED = "2026-01-31 12:00:02,000 INFO exited: api-0 (exit status 1; not expected)"
STOPPED = "2026-01-31 12:00:03,000 WARN stopped: api-0 (terminated by SIGTERM)"


def test_deaths_are_counted_since_the_last_stop_or_start_of_supervisord() -> None:
    assert exits.parse_exits([KILLED, BOOT]) == {}
    assert exits.parse_exits([BOOT, KILLED, FAILED]) == {"api-0": Exits(2, "exit status 1", "2026-01-31 12:00:02")}
    assert exits.parse_exits([BOOT, KILLED, FAILED, STOPPED]) == {}
    assert exits.parse_exits([BOOT, FAILED, STOPPED, KILLED])["api-0"].count == 1


@given(st.lists(st.text(), max_size=5))
def test_any_content_of_a_log_can_be_parsed(lines: list[str]) -> None:
    exits.parse_exits(lines)


def test_recent_ends_are_counted_apart_also_before_a_stop() -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    recent = KILLED.replace(KILLED[:19], now)
    assert exits.parse_exits([KILLED, recent])["api-0"] == Exits(2, "terminated by SIGKILL", now, 1)
    assert exits.parse_exits([recent, recent, STOPPED.replace(STOPPED[:19], now)]) == {"api-0": Exits(0, "", "", 2)}


def test_the_last_signal_of_a_process_is_found(tmp_path: Path) -> None:
    log, dumped = tmp_path / "supervisord.log", KILLED.replace("SIGKILL", "SIGSEGV (core dumped)")
    assert exits.last_signal(log, "api-0") == ""
    for lines, signal in (([KILLED, STOPPED], "SIGKILL"), ([KILLED, dumped], "SIGSEGV"), ([KILLED, FAILED], "")):
        log.write_text("".join(f"{line}\n" for line in lines))
        assert exits.last_signal(log, "api-0") == signal
        assert exits.last_signal(log, "api-1") == ""
