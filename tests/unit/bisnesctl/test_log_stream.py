"""Logs whose stream takes nothing: no exception, no exit status of Python's, and a word of it afterwards."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bisnesctl.host.log_stream import LastingHandler
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
