"""The unit of systemd: what systemd itself thinks of it, and what it promises."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bisnesctl.__main__ import main
from bisnesctl.errors import Conflict, ExitCode, UsageError
from bisnesctl.host import systemd
from bisnesctl.lifecycle import boot_unit
from bisnesctl.processes.deployment import Deployment, open_deployment, record_start
from bisnesctl.processes.topology import PROGRAMS, Mode
from tests.support.processes.servers import settings_in


@pytest.fixture(params=["plain", "with blank 100% $HOME"])
def deployment(tmp_path: Path, request: pytest.FixtureRequest) -> Deployment:
    folder = tmp_path / str(request.param)
    folder.mkdir()
    settings = settings_in(folder)
    settings.run_dir.mkdir(parents=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, True, ("meta",))
    return open_deployment(settings)


def test_systemd_accepts_the_unit(deployment: Deployment, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.fail("systemd-analyze is missing: install the package systemd")
    file = tmp_path / "bisnesctl.service"
    file.write_text(boot_unit.make(deployment, user_unit=False, name="bisnesctl").text)
    done = subprocess.run([tool, "verify", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_it_as_it_was_started_last_and_waits_for_a_stop(deployment: Deployment) -> None:
    text = boot_unit.make(deployment, user_unit=False, name="bisnesctl").text
    assert '"start" "--multiprocess" "--sandbox" "--only" "meta" "--foreground"\n' in text
    escaped = str(deployment.settings.env_file).replace("%", "%%")
    assert f'Environment="BISNES_ENV={escaped}"\n' in text
    assert boot_unit.stop_seconds() > sum({row.priority: row.kill_timeout for row in PROGRAMS}.values())
    assert f"TimeoutStopSec={int(boot_unit.stop_seconds())}\n" in text
    assert f"TimeoutStartSec={int(6 * deployment.settings.start_timeout_seconds)}\n" in text


def test_a_unit_of_a_user_names_no_user_and_another_target(deployment: Deployment) -> None:
    text = boot_unit.make(deployment, user_unit=True, name="bisnesctl").text
    assert "\nUser=" not in text
    assert "WantedBy=default.target" in text


def test_the_line_of_a_crontab_survives_cron_and_the_shell(deployment: Deployment) -> None:
    line = boot_unit.crontab_line(deployment)
    assert line.startswith("@reboot cd ")
    command = line.removeprefix("@reboot ").replace("\\%", "%").replace(" start ", " --version; true ")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("bisnesctl ")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd whose `systemctl` notes its arguments in a file."""
    calls, tool = tmp_path / "calls", tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", tmp_path / "units")
    return calls


def test_it_is_installed_and_removed(deployment: Deployment, machine: Path, tmp_path: Path) -> None:
    said: list[str] = []
    unit = boot_unit.make(deployment, user_unit=False, name="bisnesctl")
    for _ in range(2):
        unit.install(deployment, said.append)
    assert unit.path.read_text() == unit.text
    assert machine.read_text().splitlines()[:2] == ["daemon-reload", "enable bisnesctl.service"]
    assert "`sudo systemctl start bisnesctl`" in said[-1]
    other = settings_in(tmp_path)
    with pytest.raises(Conflict, match="--name"):
        boot_unit.make(open_deployment(other), user_unit=False, name="bisnesctl").install(deployment, said.append)
    unit.remove(said.append)
    assert not unit.path.exists()
    assert "disable bisnesctl.service" in machine.read_text()
    unit.remove(said.append)
    assert "nothing to remove" in said[-1]


def test_a_unit_of_a_user_needs_lingering(
    deployment: Deployment, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    said: list[str] = []
    boot_unit.make(deployment, user_unit=True, name="shop").install(deployment, said.append)
    assert (tmp_path / "config" / "systemd" / "user" / "shop.service").exists()
    assert "--user enable shop.service" in machine.read_text()
    assert any("loginctl enable-linger" in line for line in said)


def test_a_strange_name_is_refused(deployment: Deployment) -> None:
    with pytest.raises(UsageError):
        boot_unit.make(deployment, user_unit=False, name="../x")


def test_without_systemd_it_says_so_in_one_line_with_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "none")
    assert main(["startup"]) == ExitCode.CONFLICT
    said = capsys.readouterr().err
    assert (said.count("\n"), "@reboot cd " in said) == (1, True)


def test_systemd_is_notified_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    systemd.notify("STOPPING=1")  # the socket is closed, and that is no error
