"""Goes around a program that has children, so that none of them outlives it: `shim.py SECONDS COMMAND [WORD...]`.

Two processes stand between supervisord and the command, each the parent of the next, and each adopts what loses its
parent below it (PR_SET_CHILD_SUBREAPER):

    supervisord ── outer ── inner ── command ── …

Signals are passed on. When the command ends, what is left of its tree is killed, and the shim ends as the command did,
by the same status or signal. When the command does not end SECONDS after it was told to, all of it is killed. When
supervisord dies, that is a request to stop. When one of the two is killed, the other one kills everything; a single one
could not do so after its own SIGKILL.

It runs by its path in a bare interpreter and imports nothing of ours, because there is one around every session.
"""

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
#: Tells that the parent died; nobody sends it by chance.
_ORPHANED = signal.SIGRTMIN
#: Signals that ask the command to stop, and those that tell it something else.
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_TELLING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_HEARD = frozenset((*_STOPPING, *_TELLING, signal.SIGCHLD, _ORPHANED))
#: Seconds after which what cannot be killed is left behind.
_GIVE_UP = 5.0


def main(words: list[str]) -> None:
    """Runs the command until it ends, then ends likewise. `words`: seconds that it has to stop, then the command."""
    outer, patience, command = os.getpid(), float(words[0]), words[1:]
    _look_after(os.getppid(), lambda: _inner(outer, command), patience, patience)


def _inner(outer: int, command: list[str]) -> None:
    os.setsid()  # a SIGKILL of the outer one's group must not reach this one
    _look_after(outer, lambda: _run(command), math.inf, 0.0)


def _run(command: list[str]) -> None:
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(signum, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr, flush=True)


def _look_after(parent: int, work: Callable[[], None], to_stop: float, as_orphan: float) -> None:
    """Does the work in a child, sees to its end and ends likewise.

    `to_stop`, `as_orphan`: seconds that the child has to end when it is told to, and when our own parent dies.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, _HEARD)
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
    _kill_all_below()
    _end_as(status)


def _die_with(parent: int, signum: int) -> None:
    """Asks for a signal when the parent dies; sends it at once where that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def _wait(child: int, to_stop: float, as_orphan: float) -> int:
    """Passes signals on until the child ends or its time is up, and returns its wait status."""
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
            deadline = min(deadline, time.monotonic() + to_stop) if signum in _STOPPING else deadline
    return signal.SIGKILL


def _next_signal(deadline: float) -> int | None:
    """The next signal; none when the deadline has passed."""
    if deadline == math.inf:
        return signal.sigwaitinfo(_HEARD).si_signo
    told = signal.sigtimedwait(_HEARD, max(deadline - time.monotonic(), 0.0))
    return told.si_signo if told else None


def _reap(child: int = 0) -> int | None:
    """Lets go of all that ended below, and returns the child's wait status where it is among them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found


def _kill_all_below() -> None:
    """Kills everything below, over and over, because what loses its parent meanwhile becomes ours."""
    give_up = time.monotonic() + _GIVE_UP
    while (below := list(_below(os.getpid()))) and time.monotonic() < give_up:
        for pid in below:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        _reap()


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):  # pathlib would double the time that the start of the shim takes
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as listed:  # noqa: PTH123
                found += [int(each) for each in listed.read().split()]
    return found


def _end_as(status: int) -> None:
    """Ends with the exit status or by the signal of a wait status."""
    if os.WIFSIGNALED(status):
        _prctl(_PR_SET_DUMPABLE, 0)  # the command left its core already
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
