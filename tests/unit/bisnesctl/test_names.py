"""Unknown names of programs: each is refused with what may be meant, or why the settings leave it out."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bisnesctl.diagnosis import targets
from bisnesctl.errors import Conflict, PortTaken, UsageError
from bisnesctl.lifecycle import preflight
from bisnesctl.processes.deployment import open_deployment, record_start
from bisnesctl.processes.extras import left_out_explained
from bisnesctl.processes.selection import resolve
from bisnesctl.processes.topology import Mode, expand
from bisnesctl.views import subject
from tests.support.processes.servers import settings_in
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ap", "unknown name ap: did you mean api? There are: "),
        ("META", "did you mean meta"),
        ("api-7", "unknown name api-7: there are api-0 and api-1. There are: "),
        ("0", "unknown name 0: names replace ids, `bisnesctl status` lists them. There are: "),
        ("bisnesgpt-ap", "did you mean bisnesgpt-api"),
        ("frobnicate", "unknown name frobnicate. There are: guard, postgres"),
    ],
)
def test_an_unknown_name_is_answered(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve([name], expand(settings_in(tmp_path)))
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["meta", "meta-worker", "meta-worker-1", "bisnesgpt-meta"])
def test_a_program_that_is_left_out_names_the_setting(tmp_path: Path, name: str) -> None:
    deployment = open_deployment(settings_in(tmp_path, ENABLE_META="false"))
    deployment.settings.run_dir.mkdir(parents=True)
    record_start(deployment.settings.run_dir, Mode.MULTIPROCESS, False, ())
    words = f"{name} is left out: ENABLE_META=false in {tmp_path / '.env'}"
    with pytest.raises(UsageError, match=words), left_out_explained(deployment.settings):
        resolve([name], deployment.instances)
    with pytest.raises(UsageError, match=words):
        targets.find([name], deployment)
    with pytest.raises(UsageError, match=words):
        subject.describe(deployment, name)
    with pytest.raises(UsageError, match="ENABLE_META=false"):
        deployment.wanted(Mode.MULTIPROCESS, ("meta",))


def test_a_server_elsewhere_names_its_setting(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, DATABASE_URL="postgresql://u:p@db.example/x")
    words = "postgres is left out: DATABASE_URL in .* names a server"
    with pytest.raises(UsageError, match=words), left_out_explained(settings):
        resolve(["postgres"], expand(settings))


def test_a_command_that_waits_says_for_which(tmp_path: Path) -> None:
    deployment = open_deployment(settings_in(tmp_path))
    said: list[str] = []
    may_end = threading.Event()

    def wait() -> None:
        with deployment.lock("stop", 600, said.append):
            may_end.set()

    with deployment.lock("restart all"):
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: said, what=lambda: "the wait is reported")
        with pytest.raises(Conflict), deployment.lock("start", 0, said.append):
            pass
    thread.join()
    assert may_end.is_set()
    assert said == [f'waiting for "restart all" (pid {os.getpid()})']


def test_a_port_in_use_is_named_in_one_line_without_secrets(tmp_path: Path) -> None:
    program = """
import socket
import time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", program, "--token=hush"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline())
            settings = settings_in(tmp_path, API_HOST="127.0.0.1", API_PORT=str(port))
            with pytest.raises(PortTaken) as refused:
                preflight.check_free(settings, [each for each in expand(settings) if each.name == "api-0"])
        finally:
            process.kill()
    assert f"(pid {process.pid}: " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)
