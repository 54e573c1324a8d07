"""What supervisord is taught, as a plugin inside it: it wakes at once when a child ends, has two more calls, and logs
that outlast a full disk (`bisnesctl.processes.supervisor_logs`).

supervisord 4.3 looks for ended children once a second, because Python starts an interrupted poll again. Here every
signal writes a byte to a socket that its own loop polls, so that an end is noticed within milliseconds. That leans on
internals of supervisord (`get_socket_map`, what its loop asks of a dispatcher), hence the pinned version and the
contract test.

The calls make "ended by itself" and "stopped by somebody" different states that cannot be mistaken for one another,
whoever is quicker: `settle` is the operator's, `revive` is the guard's.
"""

import contextlib
import signal
import socket
from typing import Any

from supervisor.rpcinterface import SupervisorNamespaceRPCInterface
from supervisor.states import ProcessStates
from supervisor.xmlrpc import Faults, RPCError

from bisnesctl.processes import supervisor_logs

#: States of a process that ended, or could not be started, without anybody having asked for it.
_ENDED = (ProcessStates.EXITED, ProcessStates.FATAL)


def make_interface(supervisord: Any) -> "Interface":
    """The entry point of `[rpcinterface:wakeup]`."""
    supervisor_logs.install(supervisord.options.logger)
    sockets = supervisord.options.get_socket_map()
    wakeup = _Wakeup()
    sockets[wakeup.fileno()] = wakeup
    return Interface(supervisord, wakeup)


class Interface:
    """The calls, in supervisord's namespace `wakeup`. A process that is not there is a BAD_NAME fault."""

    def __init__(self, supervisord: Any, wakeup: "_Wakeup") -> None:
        self._calls = SupervisorNamespaceRPCInterface(supervisord)
        self._wakeup = wakeup

    def revive(self, name: str) -> bool:
        """Starts `group:name` where it ended by itself, and only there. Returns whether it did; faults as
        startProcess does."""
        if self._find(name).get_state() not in _ENDED:
            return False
        self._calls.startProcess(name, False)
        return True

    def settle(self, name: str) -> bool:
        """Makes `group:name` STOPPED where it ended by itself: nobody starts it again but by name. Listeners hear of
        it as of any stop. Returns whether it did."""
        process = self._find(name)
        if process.get_state() not in _ENDED:
            return False
        process.change_state(ProcessStates.STOPPED)
        return True

    def _find(self, name: str) -> Any:
        process = self._calls._getGroupAndProcess(name)[1]
        if process is None:
            raise RPCError(Faults.BAD_NAME, name)
        return process


class _Wakeup:
    """What supervisord's loop polls beside its sockets: readable after every signal."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._reader.fileno()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.recv(4096)

    def handle_error(self) -> None:
        """Nothing that could fail is done here."""
