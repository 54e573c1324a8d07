"""Nothing that a program started outlives it, whichever of them is killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bisnesctl.processes import shim
from tests.support.deployment import alive, descendants
from tests.support.waiting import HANG_SECONDS, wait_until

SHIM = [sys.executable, "-I", "-S", shim.__file__]

#: A shell with a child, and with a process that left its group, its session and its parent; it prints their pids.
FAMILY = "trap '' USR1; (setsid sleep 600 & echo $!); sleep 600 & echo $!; echo $$; echo; {}"
STAYING = FAMILY.format("wait; wait")


@dataclass
class Family:
    """A command in its shim, with everything that it started."""

    outer: subprocess.Popen[str]
    orphan: int
    child: int
    command: int

    @property
    def inner(self) -> int:
        """The shim's second process."""
        return int(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])

    @property
    def pids(self) -> list[int]:
        """All but the outer one."""
        return [*descendants(self.outer.pid), self.orphan, self.child, self.command]


@contextlib.contextmanager
def family(script: str = STAYING, patience: float = HANG_SECONDS) -> Iterator[Family]:
    outer = run(patience, "sh", "-c", script)
    assert outer.stdout is not None
    found = Family(outer, *(int(outer.stdout.readline()) for _ in range(3)))
    try:
        yield found
    finally:
        outer.kill()
        outer.communicate()


def run(patience: float, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*SHIM, str(patience), *command], stdout=subprocess.PIPE, text=True, process_group=0)


def gone(pids: list[int]) -> None:
    wait_until(lambda: not any(map(alive, pids)), what=lambda: f"still there: {[pid for pid in pids if alive(pid)]}")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 75", 75), ("kill -TERM $$", -15), ("kill -9 $$", -9)]
)
def test_the_shim_ends_as_the_command_does(script: str, status: int) -> None:
    assert run(HANG_SECONDS, "sh", "-c", script).wait(HANG_SECONDS) == status


def test_a_command_that_cannot_be_run_is_named() -> None:
    done = subprocess.run([*SHIM, "5", "/no/such/program"], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, done.stderr) == (127, "/no/such/program cannot be run: No such file or directory\n")


def test_the_command_has_the_input_and_default_signals() -> None:
    script = "cat; grep SigBlk /proc/self/status; grep SigIgn /proc/self/status"
    asked = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    given = {each for each in asked if signal.getsignal(each) is signal.SIG_IGN}  # by what started the tests
    done = subprocess.run(
        [*SHIM, "5", "sh", "-c", script], input="a\n", capture_output=True, text=True, timeout=HANG_SECONDS
    )
    blocked, ignored = [int(line.split()[-1], 16) for line in done.stdout.splitlines()[1:]]
    assert (blocked, ignored) == (0, sum(1 << each - 1 for each in given))
    assert done.stdout.startswith("a\n")


def test_orphans_of_a_command_that_ended_are_gone() -> None:
    with family(FAMILY.format("exit 3")) as found:
        assert found.outer.wait(HANG_SECONDS) == 3
        assert not any(map(alive, [found.orphan, found.child]))


def test_a_child_that_is_spared_stays_with_all_below_it() -> None:
    script = FAMILY.format("sh -c 'echo $$; sleep 601; true' spared-child & wait")  # it prints once it has its name
    outer = subprocess.Popen(
        [*SHIM, "--spare=spared-child", str(HANG_SECONDS), "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert outer.stdout is not None
    orphan, child, _, _, spared = (int(line or 0) for line in (outer.stdout.readline().strip() for _ in range(5)))
    try:
        wait_until(lambda: descendants(spared))
        outer.terminate()
        assert outer.wait(HANG_SECONDS) == -signal.SIGTERM
        assert not any(map(alive, [orphan, child]))
        assert alive(spared)
        assert descendants(spared)
    finally:
        for pid in [spared, *descendants(spared)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        outer.stdout.close()


def test_a_stop_signal_is_passed_on_and_nothing_is_left() -> None:
    with family(STAYING.replace("trap '' USR1", "trap 'exit 7' TERM")) as found:
        pids = found.pids
        found.outer.terminate()
        assert found.outer.wait(HANG_SECONDS) == 7
        gone(pids)


def test_other_signals_are_passed_on() -> None:
    with family(STAYING.replace("trap '' USR1", "trap 'exit 8' USR1")) as found:
        found.outer.send_signal(signal.SIGUSR1)
        assert found.outer.wait(HANG_SECONDS) == 8


def test_a_command_that_does_not_stop_in_time_is_killed_with_its_tree() -> None:
    with family(STAYING.replace("trap '' USR1", "trap '' TERM"), patience=0.2) as found:
        pids = found.pids
        found.outer.terminate()
        assert found.outer.wait(HANG_SECONDS) == -signal.SIGKILL
        gone(pids)


@pytest.mark.parametrize("victim", ["outer", "inner", "command", "the outer one's group"])
def test_killing_any_of_the_processes_leaves_nothing(victim: str) -> None:
    with family() as found:
        pids = found.pids
        if victim == "outer":
            found.outer.kill()
        elif victim == "the outer one's group":
            os.killpg(found.outer.pid, signal.SIGKILL)
        else:
            os.kill(getattr(found, victim), signal.SIGKILL)
        assert found.outer.wait(HANG_SECONDS) == -signal.SIGKILL
        gone(pids)


def test_both_killed_at_once_take_the_command_with_them() -> None:
    with family() as found:
        inner = found.inner
        for pid in (found.outer.pid, inner):
            os.kill(pid, signal.SIGSTOP)
        for pid in (inner, found.outer.pid):
            os.kill(pid, signal.SIGKILL)
        gone([found.command])
        os.kill(found.orphan, signal.SIGKILL)
        os.kill(found.child, signal.SIGKILL)


def test_the_death_of_the_parent_counts_as_a_stop_signal() -> None:
    script = STAYING.replace("trap '' USR1", "trap 'exit 0' TERM").replace("echo;", "echo $PPID; echo;")
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({[*SHIM, '30', 'sh', '-c', script]!r})"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in range(4)]
    parent.kill()
    parent.communicate()
    gone(pids)
