"""Wraps a program with child processes, so that none of them outlives it.

    shim.py [--spare=WORD] SECONDS COMMAND [WORD...]

A child process that has the word in its command line is spared, with all below it: the program wants it to outlive it.

Two processes stand between supervisord and the command. Each is the parent of the next, and each adopts orphans among
its descendants (PR_SET_CHILD_SUBREAPER):

    supervisord ── outer ── inner ── command ── …

Signals are passed on. When the command ends, the rest of its tree is killed, and the shim ends with the same status or
signal. If the command does not end within SECONDS after a signal to stop, its tree is killed. The death of supervisord
counts as a signal to stop. If one of the two processes is killed, the other one kills the tree; a single process could
not do that after its own SIGKILL.

The shim is run by its path in a bare interpreter and imports only the standard library, because each session has one.
"""

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

# Options of prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
#: The signal that reports the death of the parent; no other program sends it.
_ORPHANED = signal.SIGRTMIN
#: Signals that ask the command to stop.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Other signals that are passed on.
_OTHER_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WATCHED_SIGNALS = frozenset((*_STOP_SIGNALS, *_OTHER_SIGNALS, signal.SIGCHLD, _ORPHANED))
#: The option with the word of processes that are spared.
_SPARE = "--spare="
#: Seconds after which processes that cannot be killed are left.
_KILL_TIMEOUT_SECONDS = 5.0


def main(words: list[str]) -> None:
    """Runs the command and ends as it does. `words`: those after the name of this file."""
    spared = words.pop(0).removeprefix(_SPARE) if words[0].startswith(_SPARE) else ""
    outer, stop_seconds, command = os.getpid(), float(words[0]), words[1:]
    _supervise(os.getppid(), lambda: _inner(outer, command, spared), stop_seconds, stop_seconds, spared)


def _inner(outer: int, command: list[str], spared: str) -> None:
    os.setsid()  # a SIGKILL of the outer process's group must not reach this one
    _supervise(outer, lambda: _run(command), math.inf, 0.0, spared)


def _run(command: list[str]) -> None:
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these
        signal.signal(signum, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is needed
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr, flush=True)


def _supervise(parent: int, work: Callable[[], None], to_stop: float, as_orphan: float, spared: str) -> None:
    """Does the work in a child process and ends as the child does.

    `to_stop`, `as_orphan`: seconds that the child may take to end after a signal to stop, and after our parent's death.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, _WATCHED_SIGNALS)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _die_with(parent, _ORPHANED)
    this = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(this, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        work()
        os._exit(127)
    status = _wait(child, to_stop, as_orphan)
    _kill_all_below(spared)
    _end_as(status)


def _die_with(parent: int, signum: int) -> None:
    """Requests a signal at the death of the parent; sends it at once if the parent has died already."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def _wait(child: int, to_stop: float, as_orphan: float) -> int:
    """Passes signals on until the child ends or the deadline has passed; returns its wait status."""
    deadline = math.inf
    while (signum := _next_signal(deadline)) is not None:
        if signum == signal.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status
        elif signum == _ORPHANED:
            os.kill(child, signal.SIGTERM)
            deadline = min(deadline, time.monotonic() + as_orphan)
        else:
            os.kill(child, signum)
            deadline = min(deadline, time.monotonic() + to_stop) if signum in _STOP_SIGNALS else deadline
    return signal.SIGKILL


def _next_signal(deadline: float) -> int | None:
    """The next signal; None after the deadline."""
    if deadline == math.inf:
        return signal.sigwaitinfo(_WATCHED_SIGNALS).si_signo
    received = signal.sigtimedwait(_WATCHED_SIGNALS, max(deadline - time.monotonic(), 0.0))
    return received.si_signo if received else None


def _reap(child: int = 0) -> int | None:
    """Reaps all descendants that have ended; returns the child's wait status if it is one of them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found


def _kill_all_below(spared: str) -> None:
    """Kills all descendants, repeatedly, because orphans become our children meanwhile."""
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while (below := list(_below(os.getpid(), spared))) and time.monotonic() < deadline:
        for pid in below:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        _reap()


def _below(pid: int, spared: str) -> Iterator[int]:
    for child in _children(pid):
        if spared and spared in _command_line(child):
            continue
        yield child
        yield from _below(child, spared)


def _command_line(pid: int) -> list[str]:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return file.read().decode("utf-8", "surrogateescape").split("\0")
    return []


def _children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):  # importing pathlib would double the start time of the shim
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as listed:  # noqa: PTH123
                found += [int(each) for each in listed.read().split()]
    return found


def _end_as(status: int) -> None:
    """Ends with the exit status, or by the signal, of a wait status."""
    if os.WIFSIGNALED(status):
        _prctl(_PR_SET_DUMPABLE, 0)  # the command has written its core dump already
        signum = os.WTERMSIG(status)
        with suppress(OSError):
            signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os._exit(os.waitstatus_to_exitcode(status))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
