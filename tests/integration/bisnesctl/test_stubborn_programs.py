"""A program that does not react to SIGTERM: `stop` and `restart` wait, it is killed, and the tool says so."""

import os
import signal

import pytest

from bisnesctl.host.process_stat import is_alive
from bisnesctl.processes.deployment import record_start
from bisnesctl.processes.topology import Mode, program
from tests.support.deployment import PORTS, free_ports
from tests.support.processes.supervisord import supervised
from tests.support.waiting import wait_until

#: Seconds after which the program is killed here.
KILL_TIMEOUT = 1


@pytest.fixture
def row(monkeypatch):
    """The program, which is killed soon."""
    found = program("sandbox")
    before = found.kill_timeout
    object.__setattr__(found, "kill_timeout", KILL_TIMEOUT)
    yield found
    object.__setattr__(found, "kill_timeout", before)


def test_a_program_that_ignores_sigterm_is_killed_and_that_is_said(row, environment, tool, monkeypatch):
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    settings = environment(DATABASE_URL="postgresql://127.0.0.1:1/none", SANDBOX="true", **ports)
    monkeypatch.setattr("bisnesctl.lifecycle.stop.STOP_NOTICE_SECONDS", 0.2)
    with supervised(settings) as supervisor:
        record_start(settings.run_dir, Mode.MULTIPROCESS, True, ())

        def ignoring():
            """The pid of its process, which reacts to nothing but SIGKILL."""
            pid = supervisor.processes()["sandbox"].pid
            os.kill(pid, signal.SIGSTOP)
            return pid

        tool("restart", "sandbox")
        first = ignoring()
        said = tool("restart", "sandbox")
        assert "waiting for sandbox; what has not ended after 1 s is killed" in said.text
        assert "sandbox did not end within 1 s and was killed" in said.text
        assert not is_alive(first)
        second = ignoring()
        assert second != first
        said = tool("stop", "sandbox")
        assert "sandbox did not end within 1 s and was killed" in said.text
        assert "stopped sandbox" in said.text
        wait_until(lambda: not is_alive(second))
        assert supervisor.processes()["sandbox"].state == "STOPPED"
        object.__setattr__(row, "kill_timeout", 60)  # one that ends in time is not named
        tool("restart", "sandbox")
        assert "was killed" not in tool("stop", "sandbox").text
