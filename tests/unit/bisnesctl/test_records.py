"""The records of commands: deliberate stops, and who typed which command."""

import os
from pathlib import Path

import pytest

from bisnesctl.processes import command_records, stop_records
from bisnesctl.processes.topology import expand
from tests.support.processes.servers import settings_in


def test_a_stop_is_recorded_with_its_time_and_user_until_a_start(tmp_path: Path) -> None:
    stop_records.add(tmp_path, ["api-0", "api-1"])
    found = stop_records.read(tmp_path)
    assert set(found) == {"api-0", "api-1"}
    assert found["api-0"].text.startswith(f"on purpose by {stop_records.operator()} at 2")
    stop_records.remove(tmp_path, ["api-0"])
    assert set(stop_records.read(tmp_path)) == {"api-1"}


def test_any_start_ends_the_stop_of_everything(tmp_path: Path) -> None:
    stop_records.add(tmp_path, [stop_records.EVERYTHING, "meta"])
    stop_records.remove(tmp_path, ["api-0"])
    assert set(stop_records.read(tmp_path)) == {"meta"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"api-0": 3}', '{"api-0": {"at": "x", "by": "y"}}'])
def test_damaged_records_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / stop_records.STOPS_FILE).write_text(text)
    assert stop_records.read(tmp_path) == {}


def test_commands_are_taken_once_in_their_order(tmp_path: Path) -> None:
    instances = [each for each in expand(settings_in(tmp_path)) if each.program.name == "api"]
    command_records.write(tmp_path, "stop", instances)
    command_records.write(tmp_path, "restart", instances)
    (tmp_path / command_records.FOLDER / "0.json").write_text("{")  # damaged
    first, second = command_records.take(tmp_path)
    assert (first.action, second.action) == ("stop", "restart")
    assert (first.pid, first.user) == (os.getpid(), stop_records.operator())
    assert first.instances == {"api-0": "api", "api-1": "api"}
    assert list(command_records.take(tmp_path)) == []


def test_commands_that_nobody_takes_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_records, "MAX_FILES", 3)
    command_records.write(tmp_path, "start", [])  # it changed nothing
    assert not (tmp_path / command_records.FOLDER).exists()
    for _ in range(5):
        command_records.write(tmp_path, "stop", expand(settings_in(tmp_path)))
    assert len(list((tmp_path / command_records.FOLDER).iterdir())) == 3
