"""A folder without a deployment, and one whose start failed: each command says the same, and what to type."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bisnesctl.__main__ import load_commands, main
from bisnesctl.errors import ExitCode, PortTaken
from bisnesctl.host.absence import absence
from bisnesctl.lifecycle.start import Start
from bisnesctl.processes import deployment as deployments
from bisnesctl.processes import failed_start
from bisnesctl.processes.deployment import make_folders, open_deployment, record_start, record_stop
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Mode
from bisnesctl.settings import load_partly
from bisnesctl.terminal import output, status_view
from bisnesctl.terminal.output import SafeConsole
from bisnesctl.views import drift
from tests.unit.bisnesctl.test_status_view import STATUS

load_commands()
TAKEN = "port 3000 of api is in use by nginx (pid 7): end that process, or set another API_PORT"
COMMANDS = (
    "status", "status --json", "status --watch", "health", "health --json", "start", "start api", "stop", "restart api",
    "reload", "describe api", "why", "why api", "logs", "events", "alerts list", "bots list", "queue stats",
    "keys list", "cron heal", "cron clean-up", "start --multiprocess",
    "describe 0128-0",
    "why 0128-0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BISNES_ENV", raising=False)
    monkeypatch.setattr(deployments, "own_running_homes", list)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_deployment_each_command_says_the_same_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command.split()) == ExitCode.NO_DEPLOYMENT
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"error: {absence(load_partly())}"
    for step in (str(tmp_path), "`bisnesctl init`", "`bisnesctl start --multiprocess`", "BISNES_ENV"):
        assert step in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["health --probe", "cron probe"])
def test_without_a_deployment_a_probe_is_unknown_with_that_line(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command.split()) == 3
    assert f"BISNES UNKNOWN - {absence(load_partly())}" in capsys.readouterr().out


def test_between_init_and_the_first_start_only_the_start_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    capsys.readouterr()
    for command in ("status", "health", "describe api"):
        assert main(command.split()) == ExitCode.NO_DEPLOYMENT
        said = capsys.readouterr().err
        assert "yet: `bisnesctl start --multiprocess`" in said
        assert "bisnesctl init" not in said


def test_deployments_of_others_are_no_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    config = tmp_path / "var" / "run" / "supervisord.conf"
    config.parent.mkdir(parents=True)
    config.touch()
    monkeypatch.setattr(deployments, "running_configs", lambda name: [config, tmp_path / "gone" / "run" / name])
    assert deployments.own_running_homes() == [str(tmp_path / "var")]
    monkeypatch.setattr(os, "geteuid", lambda: config.stat().st_uid + 1)
    assert deployments.own_running_homes() == []


def test_doctor_before_init_contradicts_itself_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    said = capsys.readouterr().out
    assert "all settings are in the environment" not in said
    assert "there is no " in said


# --- A start that failed ---------------------------------------------------------------------------------------------


def failing_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start in the sandbox that finds its port in use."""

    def fail(*args: object) -> None:
        raise PortTaken(TAKEN)

    monkeypatch.setattr(Start, "_check", fail)
    begun = Start(open_deployment(load_partly().copy_with(sandbox=True)), Mode.MULTIPROCESS, lambda text: None)
    with pytest.raises(PortTaken):
        begun.run()


@pytest.mark.parametrize("before", ["nothing", "stopped", "died"])
def test_after_a_failed_start_each_command_says_why_and_what_to_type(
    before: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = open_deployment(load_partly())
    make_folders(deployment.settings)
    if before != "nothing":
        record_start(deployment.settings.run_dir, Mode.MULTIPROCESS, False, ())
    if before == "stopped":
        record_stop(deployment.settings.run_dir)
    failing_start(monkeypatch)
    command = "bisnesctl start --multiprocess --sandbox"
    for words, code in {"status": 0, "describe api-0": 0, "why api-0": 0, "health": ExitCode.UNHEALTHY}.items():
        assert main(words.split()) == code, words
        said = " ".join(capsys.readouterr().out.split())
        for expected in ("the start at", "failed: port 3000 of api is in use by nginx", command):
            assert expected in said, (words, expected)
        assert "stopped on purpose" not in said


def test_a_stop_and_a_start_remove_the_record_of_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = open_deployment(load_partly())
    make_folders(deployment.settings)
    run_dir = deployment.settings.run_dir
    failing_start(monkeypatch)
    assert deployment.failed_start is not None
    record_start(run_dir, Mode.MULTIPROCESS, False, ())
    assert deployment.failed_start is None
    failing_start(monkeypatch)
    record_stop(run_dir)
    assert deployment.failed_start is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": "x"}', b"\xff"])
def test_a_damaged_record_of_a_failed_start_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / failed_start.FILE).write_bytes(content)
    assert failed_start.read(tmp_path) is None


def test_the_page_of_status_shows_the_words_of_a_failed_start_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    console = SafeConsole(file=io.StringIO(), highlight=False, emoji=False, width=200)
    monkeypatch.setattr(output, "out", lambda: console)
    failed = failed_start.FailedStart(1e9, "bisnesctl start --legacy", "[red]no[/] port")
    status_view.show(replace(STATUS, condition="stopped", failed_start=failed))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "failed: [red]no[/] port: bisnesctl start --legacy" in shown


# --- Drift -----------------------------------------------------------------------------------------------------------


def test_nothing_that_runs_has_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_partly()
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    deployment = open_deployment(settings)
    known = deployment.expected()
    assert drift.find(deployment, [], {}) == []
    stopped = {each.name: Process(each.name, each.name, "STOPPED", 0, "", 0) for each in known}
    assert drift.find(deployment, known, stopped) == []
