"""Sessions are added to a running supervisord and removed, and nothing else notices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bisnesctl.errors import NotRunning
from bisnesctl.naming import session_name
from bisnesctl.processes import deployment
from bisnesctl.processes.deployment import SessionProgram, open_deployment
from bisnesctl.processes.session_programs import SessionPrograms
from bisnesctl.processes.supervisor import Process, Supervisor
from bisnesctl.settings import Settings
from tests.support.deployment import alive, descendants
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import wait_until

#: Stands in for the session process: it says which number it is, and stays.
STAND_IN = "import sys, time; print(*sys.argv[1:], sep='|', flush=True); time.sleep(600)"
#: A company's id with what supervisord, shells and file systems take for syntax.
AWKWARD = "a/b %(x)s ;'\"#é"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_in(tmp_path)
    package = found.home / "services" / "connectors" / "wwebjs"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    return found


@pytest.fixture
def client(settings: Settings) -> Iterator[Supervisor]:
    with supervised(settings) as found:
        yield found


def running(client: Supervisor, name: str) -> Process:
    wait_until(lambda: client.processes()[name].state in ("STARTING", "RUNNING"), what=lambda: str(client.processes()))
    return client.processes()[name]


def said(settings: Settings, name: str) -> str:
    log = settings.log_dir / f"{name}.log"
    wait_until(lambda: log.exists() and "\n" in log.read_text())
    return log.read_text()


def test_sessions_come_and_go_without_affecting_others(settings: Settings, client: Supervisor) -> None:
    programs = SessionPrograms(settings)
    first, second = programs.add("0128", 0), programs.add(AWKWARD, 12)
    assert programs.known() == [SessionProgram("0128", 0), SessionProgram(AWKWARD, 12)]
    before = running(client, first)
    assert (said(settings, first), said(settings, second)) == ("0128|0\n", f"{AWKWARD}|12\n")

    below = descendants(running(client, second).pid)
    programs.remove(second)
    assert programs.known() == [SessionProgram("0128", 0)]
    assert second not in client.processes()
    assert not any(map(alive, below))

    programs.add(AWKWARD, 12)
    assert programs.add("0128", 0) == first
    running(client, second)
    assert running(client, first).pid == before.pid
    programs.remove("wwebjs-session-nobody-0")
    assert client.processes().keys() >= {first, second, "api-0"}


def test_fifty_programs_come_and_go_and_one_that_was_there_before_runs_on(
    settings: Settings, client: Supervisor
) -> None:
    programs = SessionPrograms(settings)
    first = programs.add("0100", 0)
    before, known = running(client, first), client.processes().keys()
    names = [programs.add("0128", index) for index in range(50)]
    assert len({running(client, name).pid for name in names}) == 50
    for name in names:
        programs.take_down(name)
    for name in names:
        programs.remove(name)
    assert client.processes().keys() == known
    assert running(client, first).pid == before.pid
    assert programs.known() == [SessionProgram("0100", 0)]


def test_changed_settings_restart_a_session(settings: Settings, client: Supervisor) -> None:
    name = SessionPrograms(settings).add("0128", 0)
    before = running(client, name)
    assert SessionPrograms(settings.copy_with(sandbox=True)).add("0128", 0) == name
    assert running(client, name).pid != before.pid


def test_a_stopped_session_starts_when_it_is_added_again(settings: Settings, client: Supervisor) -> None:
    programs = SessionPrograms(settings)
    name = programs.add("0128", 0)
    running(client, name)
    client.stop(f"{name}:{name}")
    wait_until(lambda: client.processes()[name].state == "STOPPED")
    programs.add("0128", 0)
    running(client, name)


def test_the_tool_lists_the_sessions(settings: Settings, client: Supervisor) -> None:
    name = SessionPrograms(settings).add("0128", 0)
    deployment = open_deployment(settings)
    assert name in [each.name for each in deployment.instances]
    assert name in [each.name for each in deployment.active()]
    [instance] = [each for each in deployment.instances if each.name == name]
    assert instance.environment["BISNES_INSTANCE"] == name
    without = open_deployment(settings.copy_with(enable_wwebjs=False))
    assert name not in [each.name for each in without.instances]


def test_a_damaged_file_is_no_session(settings: Settings) -> None:
    folder = settings.run_dir / "sessions"
    folder.mkdir(parents=True)
    for number, text in enumerate(["", "; x\n", "; []\n", "; null\n", '; ["0128"]\n', '; ["0128", "x"]\n']):
        (folder / f"{number}.conf").write_text(text)
    assert deployment.find_sessions(settings) == []


def test_without_supervisord_a_session_cannot_be_added(settings: Settings) -> None:
    (settings.run_dir / "sessions").mkdir(parents=True)
    with pytest.raises(NotRunning):
        SessionPrograms(settings).add("0128", 0)


def test_names_are_different_for_every_number() -> None:
    companies = ["0128", "128", "01-28", "01.28", "a/b", "a~2fb", "A/B", "é", "", "x" * 300, "x" * 301]
    numbers = [(company, phone) for company in companies for phone in (0, 1, 10)]
    names = {session_name(*number) for number in numbers}
    assert len(names) == len(numbers)
    assert session_name("0128", 1) == "wwebjs-session-0128-1"
    assert all(len(name) < 120 for name in names)
    assert all(
        character.isalnum() or character in "-_.~" for name in names for character in name if ord(character) < 128
    )
    assert all(name.isascii() for name in names)
