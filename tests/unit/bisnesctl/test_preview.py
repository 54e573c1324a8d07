"""The preview and the question before a command acts on what a selection means."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from bisnesctl.errors import UsageError
from bisnesctl.lifecycle.targets import Targets, find_targets
from bisnesctl.processes.deployment import Deployment, record_start
from bisnesctl.processes.restart_costs import COSTS
from bisnesctl.processes.selection import Selection, select
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.processes.topology import PROGRAMS, Kind, Mode, expand
from bisnesctl.terminal import output, preview
from bisnesctl.views.backlog import Backlog, Backlogs
from services.self_test import MODULES
from tests.support.processes.servers import settings_in


@pytest.fixture(autouse=True)
def plain_messages() -> None:
    """Messages have no colours, which they keep from their first use."""
    output.err()


class Terminal(io.StringIO):
    """A terminal on which this was typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    settings = settings_in(tmp_path)
    settings.run_dir.mkdir(parents=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    return Deployment(settings, Supervisor(settings.run_dir))


def targets(deployment: Deployment, selection: Selection) -> Targets:
    known = expand(deployment.settings)
    return find_targets(deployment, selection, select(selection, known, lambda _: {}), known)


def names(found: Targets) -> list[str]:
    return [each.name for each in found.chosen]


def test_all_leaves_out_infrastructure_and_the_other_mode(deployment: Deployment) -> None:
    found = targets(deployment, Selection(("all",)))
    assert [each.name for each in found.left_out] == ["guard", "postgres", "redis"]
    assert "legacy" not in names(found)
    assert names(targets(deployment, Selection(("all", "guard"))))[0] == "guard"
    infrastructure = names(targets(deployment, Selection(kinds=("infrastructure",))))
    assert infrastructure == ["guard", "postgres", "redis", "alerts"]
    assert "alerts" in names(found)


def test_the_costs_of_every_reload_are_known_and_every_program_of_ours_has_a_self_test() -> None:
    assert {row.name for row in PROGRAMS} == set(COSTS)
    assert {row.name for row in PROGRAMS if row.kind is not Kind.INFRASTRUCTURE} == set(MODULES)


def test_a_program_of_the_other_mode_and_no_match_are_refused(deployment: Deployment) -> None:
    with pytest.raises(UsageError, match="legacy does not run in mode multiprocess"):
        targets(deployment, Selection(("legacy",)))
    with pytest.raises(UsageError, match="nothing matches api --kind meta"):
        targets(deployment, Selection(("api",), kinds=("meta",)))


@pytest.mark.parametrize(
    ("selection", "typed", "yes", "asked"),
    [
        (Selection(kinds=("meta",)), "y\n", False, True),
        (Selection(kinds=("meta",)), "", True, False),
        (Selection(kinds=("events",)), "", False, False),  # a single one
        (Selection(("meta", "events")), "", False, False),  # names say what is meant
    ],
)
def test_on_a_terminal_it_asks_if_selectors_mean_several(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    selection: Selection, typed: str, yes: bool, asked: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert preview.confirm("stop", selection, targets(deployment, selection), yes, dry_run=False)
    assert ("Stop these" in capsys.readouterr().err) == asked


def test_no_means_no(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    selection = Selection(kinds=("meta",))
    with pytest.raises(typer.Exit):
        preview.confirm("stop", selection, targets(deployment, selection), yes=False, dry_run=False)


def test_a_dry_run_shows_what_matches_and_does_nothing(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = Selection(kinds=("meta",))
    assert not preview.confirm("stop", selection, targets(deployment, selection), yes=True, dry_run=True)
    assert capsys.readouterr().out == "meta, meta-worker-1, meta-worker-2\n"


class Running:
    """A supervisord that runs these."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def state(self) -> str:
        return "RUNNING"

    def processes(self) -> dict[str, Process]:
        return {name: Process(name, name, "RUNNING", 7, "", 0) for name in self.names}


@pytest.fixture
def running(deployment: Deployment) -> Deployment:
    return replace(deployment, supervisor=Running("guard", "postgres", "api-0", "meta"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Backlogs(counted=True, channels={"meta": Backlog(1, 5.0)}), "4 processes run, 1 message waits; stop all?"),
        (Backlogs(unavailable="no"), "4 processes run, waiting messages are not known; stop all?"),
    ],
)
def test_a_stop_of_everything_asks_on_a_terminal_only(
    running: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: Backlogs,
    words: str,
) -> None:
    monkeypatch.setattr("bisnesctl.views.backlog.read", lambda settings: found)
    preview.confirm_stop_of_all(running, yes=False)  # no terminal
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    preview.confirm_stop_of_all(running, yes=False)  # its messages go elsewhere
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    preview.confirm_stop_of_all(running, yes=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(typer.Exit):
        preview.confirm_stop_of_all(running, yes=False)
    assert words in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    preview.confirm_stop_of_all(running, yes=False)


def test_a_stop_of_what_others_need_names_them_and_asks(
    running: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    preview.confirm_stop_of_base(running, targets(running, Selection(("api", "meta"))), yes=False)
    preview.confirm_stop_of_base(running, targets(running, Selection(("postgres",))), yes=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(typer.Exit):
        preview.confirm_stop_of_base(running, targets(running, Selection(("postgres",))), yes=False)
    assert "api-0, meta need postgres (postgres: the embedded PostgreSQL); stop it?" in capsys.readouterr().err
