"""Names and selectors mean instances; errors list what is known."""

from pathlib import Path

import pytest

from bisnesctl.cli.app import selection_of
from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import SessionProgram
from bisnesctl.processes.selection import Selection, select
from bisnesctl.processes.topology import Instance, expand
from tests.support.processes.servers import settings_in

STATES = {"api-0": "healthy", "api-1": "failed", "meta": "stopped", "wwebjs-session-0128-2": "degraded"}


def instances(folder: Path) -> list[Instance]:
    settings = settings_in(folder)
    sessions = [SessionProgram("0128", 0), SessionProgram("0128", 2), SessionProgram("shop é", 1)]
    return [*expand(settings), *(each.instance(settings) for each in sessions)]


def selected(folder: Path, *names: str, **selectors: list[str]) -> list[str]:
    found = instances(folder)
    states = {each.name: STATES.get(each.name, "down") for each in found}
    return [each.name for each in select(selection_of(names, **selectors), found, lambda _: states)]


def test_no_words_mean_everything(tmp_path: Path) -> None:
    assert selected(tmp_path) == [each.name for each in instances(tmp_path)] == selected(tmp_path, "all")


def test_selectors_narrow_names_and_their_values_are_alternatives(tmp_path: Path) -> None:
    assert selected(tmp_path, "all", kinds=["api"], states=["running"]) == ["api-0"]
    assert selected(tmp_path, "api,meta", states=["failed", "stopped"]) == ["api-1", "meta"]
    assert selected(tmp_path, kinds=["meta,events"]) == ["meta", "meta-worker-1", "meta-worker-2", "events"]


def test_a_company_and_a_bot_mean_their_sessions(tmp_path: Path) -> None:
    assert selected(tmp_path, companies=["0128"]) == ["wwebjs-session-0128-0", "wwebjs-session-0128-2"]
    assert selected(tmp_path, bots=["0128-2"]) == ["wwebjs-session-0128-2"]
    assert selected(tmp_path, companies=["shop é"]) == selected(tmp_path, bots=["shop é-1"]) != []
    assert selected(tmp_path, companies=["0128"], states=["degraded"]) == ["wwebjs-session-0128-2"]


def test_everything_with_a_process_is_running(tmp_path: Path) -> None:
    assert selected(tmp_path, states=["running"]) == ["api-0", "wwebjs-session-0128-2"]


@pytest.mark.parametrize(
    ("selectors", "listed"),
    [
        ({"kinds": ["sesions"]}, "unknown kind sesions, did you mean sessions? There are: api, meta, wwebjs, sessions"),
        ({"states": ["online"]}, "unknown state online. There are: running, healthy"),
        ({"companies": ["0129"]}, "unknown company 0129, did you mean 0128? There are: 0128, shop é"),
        ({"bots": ["0128-1"]}, "unknown bot 0128-1, did you mean 0128-"),
    ],
)
def test_an_error_lists_what_is_known(tmp_path: Path, selectors: dict[str, list[str]], listed: str) -> None:
    with pytest.raises(UsageError) as raised:
        selected(tmp_path, **selectors)
    assert listed in str(raised.value)


def test_without_sessions_an_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No WhatsApp Web session is set up here"):
        select(Selection(bots=("0128-0",)), expand(settings_in(tmp_path)), lambda _: {})


def test_a_selection_reads_as_it_is_typed() -> None:
    found = selection_of(["api", "meta"], companies=["0128", "0200"], states=["failed"])
    assert str(found) == "api meta --company 0128,0200 --state failed"
    assert found.has_selectors
    assert selection_of([]).is_empty
