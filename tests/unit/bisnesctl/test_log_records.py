"""Log lines of every format as records: their times, levels and further lines; merged, filtered, followed."""

import logging
import os
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl import moments
from bisnesctl.logs.files import LogFile, Span, find, read_lines, tail
from bisnesctl.logs.filters import BotPattern, Filter, Trace
from bisnesctl.logs.follow import Follower
from bisnesctl.logs.formats import LEVELS, StampReader
from bisnesctl.logs.merge import Extent, merged
from bisnesctl.logs.records import Record, RecordReader

NOON = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC).timestamp()
BERLIN = ZoneInfo("Europe/Berlin")
OURS = "timestamp=2026-01-31T12:00:00.123000Z level=warning event=a.b reason=x"
POSTGRES = "2026-01-31 12:00:00.123 UTC [77] ERROR:  relation does not exist"
REDIS = "77:M 31 Jan 2026 13:00:00.123 # memory"
GUNICORN = "[2026-01-31 12:00:00 +0000] [77] [INFO] Starting gunicorn"
SUPERVISORD = "2026-01-31 13:00:00,123 WARN exited: api-0 (exit status 1; not expected)"
CHROMIUM = "[77:78:0131/130000.123000:ERROR:gpu.cc(12)] it failed"

ANY_LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=60) | st.sampled_from(
    [OURS, POSTGRES, REDIS, GUNICORN, SUPERVISORD, CHROMIUM, "Traceback (most recent call last):", "  File x", ""]
)


def record(text: str, instance: str = "api-0", time: float = NOON, **more: object) -> Record:
    return Record(LogFile(instance, Path(f"{instance}.log"), False), time, logging.INFO, text, **more)  # type: ignore[arg-type]


def stream_of(folder: Path, name: str, *contents: str, is_error: bool = False) -> LogFile:
    """A log file and its rotated ones; the oldest content first."""
    path = folder / f"{name}{'.err' if is_error else ''}.log"
    for number, content in enumerate(reversed(contents)):
        place = path.with_name(f"{path.name}.{number}") if number else path
        place.write_bytes(content.encode("utf-8", "surrogateescape"))
    return LogFile(name, path, is_error)


def texts(
    files: list[LogFile], extent: Extent | None = None, keep: Callable[[Record], bool] | None = None
) -> list[str]:
    return [each.text for each in merged([find(file) for file in files], extent or Extent(), BERLIN, keep)]


@pytest.mark.parametrize(
    ("line", "level", "fraction"),
    [
        (OURS, "warning", 0.123),
        (POSTGRES, "error", 0.123),
        (POSTGRES.replace("ERROR", "LOG"), "info", 0.123),
        (POSTGRES.replace("ERROR", "PANIC"), "critical", 0.123),
        (REDIS, "warning", 0.123),
        (GUNICORN, "info", 0),
        (SUPERVISORD, "warning", 0.123),
        (SUPERVISORD.replace("WARN", "CRIT"), "critical", 0.123),
        (CHROMIUM, "error", 0.123),
        ("2026-01-31T12:00:00Z INFO words", "info", 0),
        ("2026-01-31 13:00:00+01:00 words", None, 0),
    ],
)
def test_every_format_has_its_time_and_level(line: str, level: str | None, fraction: float) -> None:
    stamp = StampReader(BERLIN, NOON + 60).read(line)
    assert stamp is not None
    assert stamp.time == pytest.approx(int(NOON) + fraction)
    assert stamp.level == (None if level is None else LEVELS[level])


@pytest.mark.parametrize(
    "line", ["", "words", "  File x", "2026-13-99 00:00:00 no", "timestamp=x level=y", "7:M 1 Xyz"]
)
def test_other_lines_have_no_time(line: str) -> None:
    assert StampReader(BERLIN).read(line) is None


@given(ANY_LINE)
def test_any_line_can_be_read(line: str) -> None:
    StampReader(BERLIN, NOON).read(line)


def test_a_time_without_a_year_is_of_the_last_one() -> None:
    now = datetime.now(UTC)
    line = f"[77:78:{now:%m%d/%H%M%S}.000000:ERROR:gpu.cc(12)] it failed"
    stamp = StampReader(UTC).read(line)
    assert stamp is not None
    assert stamp.time == int(now.timestamp())


def test_local_times_of_the_hour_that_occurs_twice_stay_in_order() -> None:
    reader = StampReader(BERLIN)
    lines = ["2026-10-25 01:59:00,000 INFO a", "2026-10-25 02:30:00,000 INFO b", "2026-10-25 02:10:00,000 INFO c",
             "2026-10-25 02:50:00,000 INFO d", "2026-10-25 03:01:00,000 INFO e"]  # fmt: skip
    seconds = [stamp.time for line in lines if (stamp := reader.read(line))]
    assert [round(second - seconds[0]) // 60 for second in seconds] == [0, 31, 71, 111, 122]


def test_a_traceback_stays_with_its_line(tmp_path: Path) -> None:
    crash = f"{GUNICORN}\nTraceback (most recent call last):\n  File x\n\nValueError: bad"
    file = stream_of(tmp_path, "api-0", f"{crash}\n{OURS}\n", is_error=True)
    os.utime(file.path, (NOON, NOON))
    assert texts([file]) == [crash, OURS]


def test_words_at_the_end_that_came_long_after_the_last_line_are_as_old_as_the_file(tmp_path: Path) -> None:
    file = stream_of(tmp_path, "api-0", f"{GUNICORN}\nTraceback (most recent call last):\nOSError: x\n", is_error=True)
    os.utime(file.path, (NOON + 3600, NOON + 3600))
    first, last = merged([find(file)], Extent())
    assert (first.text, last.text) == (GUNICORN, "Traceback (most recent call last):\nOSError: x")
    assert (last.time, last.level_name, last.continues) == (NOON + 3600, "error", False)


def test_further_parts_of_a_message_of_postgresql_stay_with_it(tmp_path: Path) -> None:
    parts = "\n".join([POSTGRES, POSTGRES.replace("ERROR", "STATEMENT"), "\tFROM x"])
    assert texts([stream_of(tmp_path, "postgres", f"{parts}\n", is_error=True)]) == [parts]


def lines_at(*seconds: float, word: str = "x") -> str:
    return "".join(f"timestamp={moments.iso(NOON + each)} level=info event={word}.at n={each}\n" for each in seconds)


def numbers(found: list[str]) -> list[float]:
    return [float(text.rpartition("=")[2]) for text in found]


def test_several_processes_are_merged_across_rotated_files(tmp_path: Path) -> None:
    one = stream_of(tmp_path, "api-0", lines_at(0, 2), lines_at(4, 6), lines_at(8))
    two = stream_of(tmp_path, "api-1", lines_at(1, 5), lines_at(7))
    assert numbers(texts([one, two])) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert numbers(texts([one, two], Extent(lines=2))) == [5, 6, 7, 8]
    assert numbers(texts([one, two], Extent(since=NOON + 5), lambda each: each.time >= NOON + 5)) == [5, 6, 7, 8]
    assert numbers(texts([one, two], Extent(lines=1), lambda each: each.time <= NOON + 5)) == [4, 5]


def test_a_line_that_a_rotation_split_is_whole(tmp_path: Path) -> None:
    line = lines_at(1)
    file = stream_of(tmp_path, "api-0", lines_at(0) + line[:30], line[30:])
    assert numbers(texts([file])) == [0, 1]
    assert tail(file.path, 2) == (lines_at(0) + line).splitlines()


def test_the_order_of_a_file_stays_if_its_clock_was_set_back(tmp_path: Path) -> None:
    assert numbers(texts([stream_of(tmp_path, "api-0", lines_at(0, 100, 50, 60))])) == [0, 100, 50, 60]


def test_a_wrong_line_from_the_future_does_not_hold_back_what_follows(tmp_path: Path) -> None:
    file = stream_of(tmp_path, "api-0", lines_at(0) + OURS.replace("2026", "2096") + "\n" + lines_at(2))
    os.utime(file.path, (NOON + 3, NOON + 3))
    other = stream_of(tmp_path, "api-1", lines_at(1, 3))
    assert [text.rpartition("n=")[2] for text in texts([file, other])][-3:] == ["1", "2", "3"]


def test_records_since_a_time_are_found_in_a_large_file(tmp_path: Path) -> None:
    file = stream_of(tmp_path, "api-0", lines_at(*range(20_000)))
    wanted = NOON + 19_000
    found = texts([file], Extent(since=wanted), lambda each: each.time >= wanted)
    assert numbers(found) == list(range(19_000, 20_000))


@given(st.lists(ANY_LINE, max_size=30), st.integers(0, 5))
def test_no_line_is_lost_or_moved_within_a_stream(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    file = stream_of(
        folder, "api-0", "".join(f"{line}\n" for line in lines[:cut]), "".join(f"{line}\n" for line in lines[cut:])
    )
    given_lines = [line.encode("utf-8", "surrogateescape").decode(errors="replace") for line in lines]
    found = [line for text in texts([file]) for line in text.split("\n")]
    assert found == given_lines[next((n for n, line in enumerate(given_lines) if line.strip()), len(lines)) :]


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 20))
def test_garbage_can_be_read(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], count: int) -> None:
    path = tmp_path_factory.mktemp("logs") / "api-0.log"
    for number, content in enumerate(contents):
        (path.with_name(f"{path.name}.{number}") if number else path).write_bytes(content)
    whole = b"".join(reversed(contents)).decode(errors="replace").removesuffix("\n")
    lines = whole.split("\n") if any(contents) else []
    assert tail(path, count) == lines[-count:]
    list(merged([find(LogFile("api-0", path, False))], Extent(count)))


def test_a_log_that_is_rotated_while_it_is_read_is_whole(tmp_path: Path) -> None:
    """A writer rotates as supervisord does. Each read finds a gapless run of lines up to what was written before."""
    path, done, read_again, written = tmp_path / "api-0.log", threading.Event(), threading.Event(), 0

    def write() -> None:
        nonlocal written
        chance = random.Random(1)
        stream = path.open("a")
        for number in range(6000):
            stream.write(f"line {number}\n")
            stream.flush()
            written = number
            if chance.random() < 0.005:
                read_again.clear()
                stream.close()
                for older in range(9, 0, -1):
                    if path.with_name(f"{path.name}.{older}").exists():
                        path.with_name(f"{path.name}.{older}").rename(path.with_name(f"{path.name}.{older + 1}"))
                path.rename(path.with_name(f"{path.name}.1"))
                stream = path.open("a")
                read_again.wait()
        stream.close()
        done.set()

    follower, followed = Follower(path), []
    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        followed += follower.lines()
        before = written
        found = find(LogFile("api-0", path, False))
        lines = list(read_lines([Span(segment) for segment in found.segments]))
        read = [int(line.split()[1]) for line in lines if line.startswith("line ")]
        assert read == list(range(read[0], read[-1] + 1)) if read else before == 0
        assert not read or read[-1] >= before
        read_again.set()
    writer.join()
    followed += follower.lines()
    assert followed == [f"line {number}" for number in range(6000)]


def test_lines_that_are_added_to_a_record_follow_its_fate() -> None:
    file = LogFile("api-0", Path("api-0.log"), False)
    reader, condition = RecordReader(file, UTC), Filter(level=logging.WARNING)
    shown = [each.text for each in reader.read([OURS], now=NOON) if condition.keeps(each)]
    shown += [each.text for each in reader.read(["  more"], now=NOON) if condition.keeps(each)]
    shown += [
        each.text
        for each in reader.read([OURS.replace("warning", "info"), "  less"], now=NOON)
        if condition.keeps(each)
    ]
    assert shown == [OURS, "  more"]


def test_lines_about_a_bot_are_found_in_every_process() -> None:
    bot = BotPattern("0128", 2, bot_id=17)
    about = [
        "event=a.b bot=0128-2",
        "event=a.b session=0128-2 x=1",
        "event=a.b company=0128 phone=2",
        "event=a.b bot=17",
    ]
    others = ["event=a.b bot=0128-21", "event=a.b bot=10128-2", "event=a.b company=0128 phone=3", "event=a.b bot=171",
              "event=a.b n=17"]  # fmt: skip
    assert [text for text in about + others if bot.matches(record(text))] == about
    assert bot.matches(record("anything", "wwebjs-session-0128-2"))
    assert not bot.matches(record("anything", "wwebjs-session-0128-21"))


def test_one_message_is_followed_by_its_id_and_that_of_its_request() -> None:
    accepted = record("event=message.accepted request_id=req-1 message_id=m-1")
    refused = record("event=request.failed request_id=req-1")
    other = record("event=message.accepted request_id=req-1 message_id=m-2")
    sent = record("event=message.sent message_id=m-1", "meta-worker-1")
    stranger = record("event=message.sent message_id=m-11 request_id=req-11")
    logs = [accepted, refused, other, sent, stranger]
    by_message, by_request = Trace("m-1", logs), Trace("req-1", logs)
    assert [each for each in logs if by_message.matches(each)] == [accepted, refused, sent]
    assert [each for each in logs if by_request.matches(each)] == [accepted, refused, other, sent]


def test_a_message_is_followed_while_its_lines_are_written() -> None:
    trace = Trace("req-1")
    assert trace.matches(record("event=message.accepted request_id=req-1 message_id=m-1"))
    assert trace.matches(record("event=message.sent message_id=m-1"))
    assert not trace.matches(record("event=message.sent message_id=m-2"))
