"""The resource usage of real process trees."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from bisnesctl.health.resource_usage import Meter, Sample
from tests.support.waiting import wait_until

#: It holds 100 MB and then computes without end.
BUSY = "held = b'x' * (100 << 20); print('held', flush=True)\nwhile True: pass"
IDLE = "print('held', flush=True); input()"


@contextlib.contextmanager
def parent_of(program: str) -> Iterator[int]:
    """A process that does nothing but wait for a child, which runs this program; yields the pid of the parent."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == "held"
        try:
            yield parent.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_the_usage_of_a_child_counts() -> None:
    with parent_of(BUSY) as busy, parent_of(IDLE) as idle:
        wait_until(lambda: Sample().usage([busy])[busy].cpu > 0)
        found = Sample().usage([busy, idle])
    assert found[busy].memory > 100 << 20 > found[idle].memory > 0
    assert found[busy].uptime >= found[idle].uptime > 0


def test_a_process_that_started_after_the_sample_counts_since_its_start() -> None:
    sample = Sample()
    with parent_of(BUSY) as busy:
        wait_until(lambda: sample.usage([busy])[busy].cpu > 0)


def test_somebody_who_looks_again_gets_the_usage_since_the_last_look() -> None:
    meter = Meter()
    first = meter.sample()
    with parent_of(BUSY) as busy:
        second = meter.sample()
        assert second is first  # the second look counts from the first one
        wait_until(lambda: second.usage([busy])[busy].cpu > 0)
        memory = second.usage([busy])[busy].memory
        assert memory > 100 << 20
        assert meter.sample().usage([busy])[busy].memory == memory  # it was not read again
    assert meter.sample().usage([busy]) == {}


def test_a_process_that_is_gone_is_left_out() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert Sample().usage([gone.pid]) == {}
