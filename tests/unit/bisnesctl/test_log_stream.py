"""Logs whose stream takes nothing: no exception, no exit status of Python's, and a word of it afterwards."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import structlog

from bisnesctl.host import log_stream
from bisnesctl.host.log_stream import LastingHandler, Repeats
from tests.support.moving_clock import MovingClock
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk

SERVICE = """
    import logging, structlog
    from services.runtime import logging_setup
    logging_setup.configure("info")
    for number in range(2000):
        structlog.get_logger().info("a line", number=number)
        logging.getLogger("other").warning("another")
"""
GUARD = """
    import logging, sys
    from bisnesctl.host.log_stream import LastingHandler
    logging.basicConfig(handlers=[LastingHandler(sys.stderr)])
    for number in range(2000):
        logging.warning("a line")
"""


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("program", [SERVICE, GUARD])
def test_a_process_with_an_unwritable_log_ends_with_its_own_status(program, unbuffered):
    command = [sys.executable, *(["-u"] if unbuffered else []), "-c", textwrap.dedent(program)]
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(command, stdout=full, stderr=full).returncode == 0


@mounts
def test_lost_lines_are_reported_once_writing_works_again(tmp_path):
    with small_disk(tmp_path / "disk") as small:
        path = small.folder / "a.log"
        with path.open("w") as stream:
            handler = LastingHandler(stream)
            log = logging.Logger("test")
            log.addHandler(handler)
            log.info("before")
            small.fill()
            for number in range(3000):
                log.info("lost %s", "x" * number)
            small.free()
            log.info("after")
        said = path.read_text()
    assert said.startswith("before\n")
    assert said.endswith("after\n")
    assert " lines of this log were lost" in said


@pytest.fixture
def clock(monkeypatch):
    made = MovingClock()
    monkeypatch.setattr(log_stream, "time", made)
    return made


def written(repeats, method="warning", **fields):
    """The fields of the line, or None if it is left out."""
    try:
        return repeats(None, method, {"event": "sweep.failed", **fields})
    except structlog.DropEvent:
        return None


def test_an_equal_warning_is_written_once_a_minute_with_the_number_of_the_others(clock):
    repeats = Repeats()
    assert written(repeats, reason="unavailable") == {"event": "sweep.failed", "reason": "unavailable"}
    assert [written(repeats, reason="unavailable") for _ in range(7)] == [None] * 7
    clock.now += log_stream.REPEAT_SECONDS + 1
    assert written(repeats, reason="unavailable") == {"event": "sweep.failed", "reason": "unavailable", "repeated": 7}
    assert written(repeats, reason="unavailable") is None
    clock.now += log_stream.REPEAT_SECONDS + 1
    assert written(repeats, reason="unavailable")["repeated"] == 1
    clock.now += log_stream.REPEAT_SECONDS + 1
    assert "repeated" not in written(repeats, reason="unavailable")


@pytest.mark.parametrize(
    ("method", "fields"),
    [("info", {}), ("debug", {}), ("error", {"exc_info": True}), ("exception", {"exc_info": True})],
)
def test_other_lines_are_always_written(clock, method, fields):
    repeats = Repeats()
    assert [written(repeats, method, **fields) is not None for _ in range(3)] == [True] * 3


def test_lines_that_differ_in_a_value_are_all_written(clock):
    repeats = Repeats()
    assert all(written(repeats, message=number, about={"list": [number]}) for number in range(2000))
    assert len(repeats._written) == log_stream.MAX_REMEMBERED
    assert written(repeats, message=1999, about={"list": [1999]}) is None


@pytest.mark.parametrize(
    "configure",
    [
        "from services.runtime import logging_setup; logging_setup.configure('info')",
        "from bisnesctl.host import log_stream; log_stream.configure_logging(sys.stdout)",
    ],
)
def test_every_program_leaves_repeats_out(configure):
    program = f"""
import sys, structlog
{configure}
for _ in range(50):
    structlog.get_logger().warning("sweep.failed", reason="unavailable")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("sweep.failed") == 1
