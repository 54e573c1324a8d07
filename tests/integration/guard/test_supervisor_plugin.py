"""The internals of the pinned supervisord that our plugin relies on, and the calls that it adds."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor.loggers import getLogger
from supervisor.options import ServerOptions
from supervisor.poller import Poller
from supervisor.states import ProcessStates, SupervisorStates

from bisnesctl.errors import SupervisorFault
from bisnesctl.lifecycle import preflight
from bisnesctl.processes import supervisor_plugin
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.processes.topology import Instance, Program
from tests.support.deployment import free_ports
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import HANG_SECONDS, wait_until

SLEEPER = """
[program:sleeper]
command = sleep 600
autostart = false
autorestart = false
startsecs = 0
startretries = 0

[program:nothing]
command = /bin/false
autostart = false
autorestart = false
startsecs = 0
startretries = 0
"""
NAME = "sleeper:sleeper"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with supervised(settings_in(tmp_path_factory.mktemp("wakeup")), SLEEPER) as found:
        yield found


def state(client: Supervisor, name: str = "sleeper") -> str:
    return client.processes()[name].state


def await_state(client: Supervisor, wanted: str, name: str = "sleeper") -> None:
    wait_until(lambda: state(client, name) == wanted, what=lambda: state(client, name))


@pytest.fixture
def ended(client: Supervisor) -> Supervisor:
    """supervisord with a process that was killed."""
    client.start(NAME)
    await_state(client, "RUNNING")
    os.kill(client.processes()["sleeper"].pid, signal.SIGKILL)
    await_state(client, "EXITED")
    return client


def test_a_process_that_ended_by_itself_is_revived(ended: Supervisor) -> None:
    assert ended.revive(NAME)
    await_state(ended, "RUNNING")


def test_a_process_that_runs_or_was_stopped_is_not_revived(client: Supervisor) -> None:
    client.start(NAME)
    await_state(client, "RUNNING")
    pid = client.processes()["sleeper"].pid
    assert not client.revive(NAME)
    assert client.processes()["sleeper"].pid == pid
    client.stop(NAME)
    await_state(client, "STOPPED")
    assert not client.revive(NAME)
    assert state(client) == "STOPPED"


def test_a_stop_after_the_end_prevents_a_revival(ended: Supervisor) -> None:
    ended.stop(NAME)
    assert state(ended) == "STOPPED"
    assert not ended.revive(NAME)
    ended.start(NAME)
    await_state(ended, "RUNNING")


def test_a_process_that_ends_at_once_can_be_revived_repeatedly(client: Supervisor) -> None:
    client.start("nothing:nothing")
    for _ in range(3):
        await_state(client, "EXITED", "nothing")
        assert client.revive("nothing:nothing")


def test_an_unknown_name_is_a_fault(client: Supervisor) -> None:
    with pytest.raises(SupervisorFault, match="BAD_NAME"):
        client.revive("nobody:nobody")


def test_a_held_socket_lets_clients_wait_while_its_only_process_is_restarted(
    tmp_path: Path,
) -> None:
    [port], server = free_ports(1), tmp_path / "server.py"
    server.write_text(SERVER)
    more = SHARED.format(port=port, python=sys.executable, server=server)
    with supervised(settings_in(tmp_path), more) as client:
        assert not client.hold("server")  # no process has opened it
        client.start("server:server")
        assert ask(port) == b"answered"
        assert client.hold("server")
        client.stop("server:server")
        await_state(client, "STOPPED", "server")
        with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as waiting:
            client.start("server:server")
            assert waiting.recv(100) == b"answered"
        client.release("server")
        client.release("server")
        client.stop("server:server")
        await_state(client, "STOPPED", "server")
        with pytest.raises(ConnectionRefusedError):
            ask(port)
        assert not client.hold("sleeper")
        assert not client.hold("nobody")


def test_clients_wait_for_the_next_process_after_an_end_by_itself(tmp_path: Path) -> None:
    [port], server, settings = free_ports(1), tmp_path / "server.py", settings_in(tmp_path)
    server.write_text(SERVER)
    instance = Instance("server", Program("server", "", "", address=("x", "api_port")), "server", "127.0.0.1", port)
    with supervised(settings, SHARED.format(port=port, python=sys.executable, server=server)) as client:
        client.start("server:server")
        assert ask(port) == b"answered"
        os.kill(client.processes()["server"].pid, signal.SIGKILL)
        await_state(client, "EXITED", "server")
        with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as waiting:
            preflight.check_free(settings, [instance])  # a command may start it
            assert client.revive("server:server")
            assert waiting.recv(100) == b"answered"
        os.kill(client.processes()["server"].pid, signal.SIGKILL)
        await_state(client, "EXITED", "server")
        client.stop("server:server")  # it is settled: nobody starts it
        with pytest.raises(ConnectionRefusedError):
            ask(port)
        client.start("server:server")
        assert ask(port) == b"answered"
        os.kill(client.processes()["server"].pid, signal.SIGKILL)
        await_state(client, "EXITED", "server")
        wait_until(lambda: is_refused(port), 3 * supervisor_plugin.RESTART_SECONDS)  # no process came


def is_refused(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), HANG_SECONDS):
            return False
    except ConnectionRefusedError:
        return True


#: A program that answers on the socket that supervisord passes to it.
SERVER = """
import socket
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    connection.sendall(b'answered')
    connection.close()
"""
SHARED = """
[fcgi-program:server]
socket = tcp://127.0.0.1:{port}
command = {python} {server}
process_name = server
autostart = false
autorestart = false
startsecs = 0
startretries = 0
"""


PROCESSES = [
    (ProcessStates.RUNNING, False, True),
    (ProcessStates.STOPPED, False, True),
    (ProcessStates.EXITED, False, True),
    (ProcessStates.FATAL, True, True),
    (ProcessStates.EXITED, True, False),
    (ProcessStates.STARTING, False, False),
    (ProcessStates.BACKOFF, False, False),
    (ProcessStates.STOPPING, False, False),
]


@pytest.mark.parametrize(("state", "autorestart", "waits"), PROCESSES)
def test_the_loop_waits_longer_only_while_no_process_depends_on_the_time(
    state: int, autorestart: bool, waits: bool
) -> None:
    config = SimpleNamespace(autorestart=autorestart, autostart=False)
    process = SimpleNamespace(state=state, config=config, laststart=1.0)
    poller = SimpleNamespace(poll=lambda timeout: timeout)
    options = SimpleNamespace(mood=SupervisorStates.RUNNING, poller=poller)
    supervisord = SimpleNamespace(options=options, process_groups={"one": SimpleNamespace(processes={"one": process})})
    patient = supervisor_plugin._PatientPoller(supervisord)
    assert (patient.poll(1) > 1) is waits
    supervisord.process_groups["listener"] = SimpleNamespace(processes={}, event_buffer=["an event"])
    assert patient.poll(1) == 1
    del supervisord.process_groups["listener"]
    options.mood = SupervisorStates.SHUTDOWN
    assert patient.poll(1) == 1


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as connection:
        return connection.recv(100)


def test_every_signal_ends_the_poll_of_supervisords_loop() -> None:
    """The loop's own steps: it polls what is readable in the socket map, and has what it finds handle it."""
    options = ServerOptions()
    options.logger = getLogger()
    sockets: dict[int, Any] = options.get_socket_map()
    before = set(sockets)
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    kept = supervisor_plugin.make_interface(SimpleNamespace(options=options))
    try:
        [fd] = set(sockets) - before
        poller = Poller(options)
        for _ in range(2):
            assert sockets[fd].readable()
            assert not sockets[fd].writable()
            poller.register_readable(fd)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGCHLD)).start()
            assert poller.poll(3600) == ([fd], [])  # without the plugin it returns when the time is up
            sockets[fd].handle_read_event()
            assert poller.poll(0) == ([], [])
    finally:
        assert kept
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, handler)
        sockets.pop(fd)
