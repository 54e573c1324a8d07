"""Processes of an earlier run are found; those of another supervisord, which may run this very command, are not."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bisnesctl import paths
from bisnesctl.errors import Conflict
from bisnesctl.host import process_stat
from bisnesctl.lifecycle import preflight
from bisnesctl.lifecycle.preflight import find_orphans, wait_for_orphans
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in


@contextlib.contextmanager
def started_by(
    settings: Settings, server: str, name: str = "api-0", command: tuple[str, ...] = ("sleep", "600")
) -> Iterator[int]:
    """The pid of a process that this supervisord has started."""
    environment = {
        **os.environ,
        "BISNES_ENV": str(settings.env_file),
        "SUPERVISOR_PROCESS_NAME": name,
        "SUPERVISOR_SERVER_URL": server,
    }
    child = subprocess.Popen(command, env=environment)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def orphans(settings: Settings, server: str) -> dict[int, str]:
    """The orphans while a process of that supervisord runs; its pid is written as 0."""
    with started_by(settings, server) as child:
        return {0 if pid == child else pid: name for pid, name in find_orphans(settings).items()}


def test_a_process_of_an_earlier_supervisord_of_this_home_is_an_orphan(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert orphans(settings, f"unix://{paths.supervisor_socket(settings.run_dir)}") == {0: "api-0"}


def test_a_process_of_another_supervisord_is_none(tmp_path: Path) -> None:
    assert orphans(settings_in(tmp_path), "unix:///run/supervisor.sock") == {}


def test_a_start_waits_for_orphans_but_ends_the_evaluator_which_waits_for_an_alert_that_the_start_mutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    server = f"unix://{paths.supervisor_socket(settings.run_dir)}"
    with started_by(settings, server, "alerts"):
        wait_for_orphans(settings, print)
    monkeypatch.setattr(preflight, "ORPHANS_TIMEOUT_SECONDS", 1.0)
    with started_by(settings, server) as child, pytest.raises(Conflict, match=f"have not ended: api-0 .pid {child}"):
        wait_for_orphans(settings, print)


def test_a_postgresql_that_does_not_end_is_stopped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setattr(preflight, "POSTGRES_TIMEOUT_SECONDS", 1.0)
    code = "import signal as s, time; s.signal(s.SIGINT, s.SIG_IGN); s.signal(s.SIGTERM, s.SIG_IGN)"
    code += "; s.signal(s.SIGQUIT, s.SIG_DFL); time.sleep(600)"
    deaf = (sys.executable, "-c", code)  # which SIGQUIT ends, even if this process ignores it
    with started_by(settings, f"unix://{paths.supervisor_socket(settings.run_dir)}", "postgres", deaf) as child:
        wait_for_orphans(settings, print)
        assert not process_stat.is_alive(child)
