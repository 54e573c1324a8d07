"""Names and selectors mean instances; errors list what is known."""

from pathlib import Path

import pytest

from bisnesctl.__main__ import main
from bisnesctl.cli.app import selection_of
from bisnesctl.errors import UsageError
from bisnesctl.processes.deployment import SessionProgram
from bisnesctl.processes.selection import Selection, in_mode, resolve, select
from bisnesctl.processes.topology import Instance, Kind, Mode, expand, instance_of, program
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
        ({"kinds": ["sesions"]}, "unknown kind sesions, did you mean sessions? There are: api, wwebjs, sessions, meta"),
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


def programs(folder: Path, **variables: str) -> list[Instance]:
    return expand(settings_in(folder, **variables))


def names(found: list[Instance]) -> list[str]:
    return [each.name for each in found]


def test_modes_share_only_the_servers_the_guard_and_the_alerts(tmp_path: Path) -> None:
    found = programs(tmp_path, SANDBOX="true")
    legacy, many = set(names(in_mode(found, Mode.LEGACY))), set(names(in_mode(found, Mode.MULTIPROCESS)))
    assert legacy & many == {"guard", "alerts", "postgres", "redis", "sandbox"}
    assert legacy | many == set(names(found))


def test_only_keeps_what_the_chosen_need(tmp_path: Path) -> None:
    found = programs(tmp_path)
    assert names(in_mode(found, Mode.MULTIPROCESS, ["bisnesgpt-api"])) == [
        *("guard", "postgres", "redis", "api-0", "api-1", "alerts"),
    ]
    assert names(in_mode(found, Mode.MULTIPROCESS, ["meta"]))[3:-1] == ["meta", "meta-worker-1", "meta-worker-2"]
    with pytest.raises(UsageError, match="legacy"):
        in_mode(found, Mode.MULTIPROCESS, ["legacy"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("api", ["api-0", "api-1"]),
        ("bisnesgpt-api", ["api-0", "api-1"]),
        ("api-1", ["api-1"]),
        ("meta", ["meta"]),
        ("meta-worker", ["meta-worker-1", "meta-worker-2"]),
        ("bisnesgpt-meta", ["meta", "meta-worker-1", "meta-worker-2"]),
        ("whatsapp-service-legacy", ["legacy"]),
    ],
)
def test_names_of_programs_instances_and_aliases_are_resolved(tmp_path: Path, name: str, meant: list[str]) -> None:
    assert names(resolve([name], programs(tmp_path))) == meant


def test_names_mean_each_instance_once_in_order_of_start(tmp_path: Path) -> None:
    assert names(resolve(["meta", "api-1", "api"], programs(tmp_path))) == ["api-0", "api-1", "meta"]


def test_the_error_for_an_unknown_name_lists_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"apy.*api, meta"):
        resolve(["apy"], programs(tmp_path))


def test_only_some_programs_are_not_the_sessions_unless_the_channel_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    session = instance_of(program("wwebjs-session"), "session", settings, {"company": "1", "phone": "0"})
    found = [*expand(settings), session]
    assert "session" not in names(in_mode(found, Mode.MULTIPROCESS, ["api"]))
    assert names(in_mode(found, Mode.MULTIPROCESS, ["wwebjs"]))[-3:] == ["wwebjs", "alerts", "session"]
    assert "session" in names(in_mode(found, Mode.LEGACY))


def test_the_help_lists_all_kinds(capsys):
    main(["status", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    *kinds, last = Kind
    assert f"Only {', '.join(kinds)} or {last}." in shown
