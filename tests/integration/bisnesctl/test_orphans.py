"""Processes of an earlier run are found; those of another supervisord, which may run this very command, are not."""

import os
import subprocess
from pathlib import Path

from bisnesctl import paths
from bisnesctl.lifecycle.preflight import find_orphans
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in


def orphans(settings: Settings, server: str) -> dict[int, str]:
    """The orphans while a process of that supervisord runs; its pid is written as 0."""
    environment = {
        **os.environ,
        "BISNES_ENV": str(settings.env_file),
        "SUPERVISOR_PROCESS_NAME": "api-0",
        "SUPERVISOR_SERVER_URL": server,
    }
    child = subprocess.Popen(["sleep", "600"], env=environment)
    try:
        return {0 if pid == child.pid else pid: name for pid, name in find_orphans(settings).items()}
    finally:
        child.kill()
        child.wait()


def test_a_process_of_an_earlier_supervisord_of_this_home_is_an_orphan(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert orphans(settings, f"unix://{paths.supervisor_socket(settings.run_dir)}") == {0: "api-0"}


def test_a_process_of_another_supervisord_is_none(tmp_path: Path) -> None:
    assert orphans(settings_in(tmp_path), "unix:///run/supervisor.sock") == {}
