"""A plugin inside supervisord: it notices the end of a child at once, adds calls, and keeps logs working on a full disk
(`bisnesctl.processes.supervisor_logs`).

supervisord 4.3 looks for ended children once a second, because Python restarts an interrupted poll. Here every signal
writes a byte to a socket that supervisord's loop polls, so that an end is noticed within milliseconds. That relies on
internals of supervisord (`get_socket_map`, and the methods that its loop calls on a dispatcher), hence the pinned
version and the contract test.

While every process runs or stays stopped, nothing depends on the time, and the loop waits longer than its second: it
looks after every signal, call, output and event of a child anyway.

The calls keep "ended by itself" and "stopped by an operator" apart without a race: operators call `settle`, the guard
calls `revive`. `refit` changes the configuration of one member of a group, so that the others need not stop. `hold`
keeps a socket open while the only process that listens on it is restarted. After an end by itself, that happens without
a call, for `RESTART_SECONDS`: clients wait for the next process instead of being refused.
"""

import contextlib
import signal
import socket
import time
from typing import Any

from supervisor import events
from supervisor.options import split_namespec
from supervisor.rpcinterface import SupervisorNamespaceRPCInterface
from supervisor.socket_manager import SocketManager
from supervisor.states import STOPPED_STATES, ProcessStates, SupervisorStates
from supervisor.xmlrpc import Faults, RPCError

from bisnesctl.processes import supervisor_logs

#: States of a process that ended by itself, or could not be started.
_ENDED = (ProcessStates.EXITED, ProcessStates.FATAL)
#: Seconds for which clients of a process that ended by itself wait for the next one. The guard starts it sooner, unless
#: it ends again and again.
RESTART_SECONDS = 10.0
#: Seconds for which the loop of supervisord waits, at most, while nothing depends on the time. Its shortest tick.
QUIET_SECONDS = 5.0
#: States that only a call or an end of the process can change.
_LASTING = (ProcessStates.RUNNING, ProcessStates.STOPPED, *_ENDED)


def make_interface(supervisord: Any) -> "Interface":
    """The entry point of `[rpcinterface:wakeup]`."""
    supervisor_logs.install(supervisord.options.logger)
    sockets = supervisord.options.get_socket_map()
    supervisord.options.poller = _PatientPoller(supervisord)
    wakeup = _Wakeup()
    sockets[wakeup.fileno()] = wakeup
    return Interface(supervisord, wakeup)


class Interface:
    """The calls in supervisord's namespace `wakeup`. An unknown process is a BAD_NAME fault."""

    def __init__(self, supervisord: Any, wakeup: "_Wakeup") -> None:
        self._supervisord = supervisord
        self._calls = SupervisorNamespaceRPCInterface(supervisord)
        self._wakeup = wakeup
        self._held: dict[str, Any] = {}  # references to sockets of groups, by the group's name
        self._ended: dict[str, tuple[Any, float]] = {}  # the same after an end by itself, and until when
        events.subscribe(events.ProcessStateEvent, self._on_state)
        events.subscribe(events.Tick5Event, self._on_tick)

    def revive(self, name: str) -> bool:
        """Starts `group:name` if it ended by itself. Returns whether it did; faults as startProcess does."""
        if self._find(name).get_state() not in _ENDED:
            return False
        self._calls.startProcess(name, False)
        return True

    def settle(self, name: str) -> bool:
        """Makes `group:name` STOPPED if it ended by itself, so that the guard does not restart it. Listeners get the
        event of a stop. Returns whether it did."""
        process = self._find(name)
        if process.get_state() not in _ENDED:
            return False
        process.change_state(ProcessStates.STOPPED)
        return True

    def refit(self, name: str) -> bool:
        """Gives the stopped `group:name` the configuration that reloadConfig read; adds it to its group, or removes it.

        The other members of the group run on, with their configuration and their socket. The group counts as changed
        until all its members have the new configuration.
        """
        group_name, process_name = split_namespec(name)
        group = self._supervisord.process_groups.get(group_name)
        fresh = next(
            (each for each in self._supervisord.options.process_group_configs if each.name == group_name), None
        )
        if group is None or fresh is None:
            raise RPCError(Faults.BAD_NAME, name)
        process = group.processes.get(process_name)
        if process is not None and process.get_state() not in STOPPED_STATES:
            raise RPCError(Faults.STILL_RUNNING, name)
        _share_socket(group, fresh)
        config = next((each for each in fresh.process_configs if each.name == process_name), None)
        if config is None:
            group.processes.pop(process_name, None)
        elif process is None or process.config != config:
            config.create_autochildlogs()
            group.processes[process_name] = config.make_process(group)
        if _is_fitted(group, fresh):
            group.config = fresh
        return True

    def hold(self, group_name: str) -> bool:
        """Keeps the socket of a group open until `release`, so that clients wait for the next process of the group.

        Returns whether the group has an open socket.
        """
        manager = getattr(self._supervisord.process_groups.get(group_name), "socket_manager", None)
        if manager is None or not manager.is_prepared():
            return False
        self._held[group_name] = manager.get_socket()
        return True

    def release(self, group_name: str) -> bool:
        """Ends a `hold`: the socket is closed as soon as no process uses it. Returns whether there was one."""
        self._ended.pop(group_name, None)
        return self._held.pop(group_name, None) is not None

    def _on_state(self, event: Any) -> None:
        """Keeps the socket of a process that ended by itself open. Its own reference to it is dropped after this."""
        group = event.process.group
        manager = getattr(group, "socket_manager", None)
        if manager is None:
            return
        if isinstance(event, events.ProcessStateExitedEvent) and manager.is_prepared():
            self._ended[group.config.name] = manager.get_socket(), time.monotonic() + RESTART_SECONDS
        elif isinstance(event, events.ProcessStateRunningEvent | events.ProcessStateStoppedEvent):
            self._ended.pop(group.config.name, None)

    def _on_tick(self, _: Any) -> None:
        now = time.monotonic()
        self._ended = {name: kept for name, kept in self._ended.items() if kept[1] > now}

    def _find(self, name: str) -> Any:
        process = self._calls._getGroupAndProcess(name)[1]
        if process is None:
            raise RPCError(Faults.BAD_NAME, name)
        return process


def _share_socket(group: Any, fresh: Any) -> None:
    """Makes a group use the socket of its new configuration from now on; running members keep the one they have.

    Raises a fault if the address cannot be used.
    """
    manager = getattr(group, "socket_manager", None)
    if manager is None or manager.config() == fresh.socket_config:
        return
    new = SocketManager(fresh.socket_config, logger=group.config.options.logger)
    try:
        new.get_socket()
    except OSError as error:
        raise RPCError(Faults.SPAWN_ERROR, f"{fresh.socket_config.url}: {error.strerror}") from error
    group.socket_manager = new


def _is_fitted(group: Any, fresh: Any) -> bool:
    """Whether all members have the new configuration, and the socket of the group."""
    wanted = {each.name: each for each in fresh.process_configs}
    if {name: each.config for name, each in group.processes.items()} != wanted:
        return False
    sockets = (getattr(each, "fcgi_sock", None) for each in group.processes.values())
    return all(each is None or each._get() is group.socket_manager.socket for each in sockets)


class _PatientPoller:
    """supervisord's poller, which waits longer while nothing depends on the time."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord, self._poller = supervisord, supervisord.options.poller

    def poll(self, timeout: float) -> Any:
        return self._poller.poll(QUIET_SECONDS if self._is_quiet() else timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def _is_quiet(self) -> bool:
        groups = self._supervisord.process_groups.values()
        return self._supervisord.options.mood == SupervisorStates.RUNNING and all(
            not getattr(group, "event_buffer", None) and all(map(_lasts, group.processes.values())) for group in groups
        )


def _lasts(process: Any) -> bool:
    """Whether supervisord itself does not change the state of a process."""
    if process.state not in _LASTING:
        return False
    if process.state == ProcessStates.EXITED:
        return not process.config.autorestart
    return process.state != ProcessStates.STOPPED or bool(process.laststart) or not process.config.autostart


class _Wakeup:
    """A dispatcher in supervisord's loop that is readable after every signal."""

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
        """Does nothing, because nothing here can fail."""
