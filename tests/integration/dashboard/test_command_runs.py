"""Commands that people run from the dashboard, and what is known of them while they run and afterwards."""

import pytest

from bisnesctl.host import file_lock
from bisnesctl.people.roles import Role
from services.dashboard import command_runs
from services.dashboard.command_runs import FOLDER, CommandRuns
from tests.support.waiting import wait_until


@pytest.fixture
def runs(settings):
    return CommandRuns(settings)


def test_a_command_runs_and_its_end_and_output_are_kept(runs):
    begun = runs.begin(["--version"], "aisha", None, "127.0.0.1")
    ended = wait_until(lambda: (found := runs.find(begun.id)) and found.ended_at and found)
    assert (ended.exit_code, ended.lost) == (0, False)
    assert "bisnesctl" in runs.output(begun.id)
    assert [each.id for each in runs.recent(5, None)] == [begun.id]
    assert runs.recent(5, "0100") == []


def test_a_run_whose_process_was_killed_is_shown_as_such(runs, settings, signed_in, monkeypatch):
    begun = runs.begin(["--version"], "aisha", None, "127.0.0.1")
    wait_until(lambda: runs.find(begun.id).ended_at)
    record = settings.home / FOLDER / f"{begun.id}.json"
    command_runs._store(record, begun)  # as it was before the end
    assert not runs.find(begun.id).lost  # it may have been begun a moment ago
    monkeypatch.setattr(command_runs, "START_SECONDS", 0.0)
    with file_lock.attempt(record.with_suffix(".log")):
        assert not runs.find(begun.id).lost
    wait_until(lambda: runs.find(begun.id).lost)  # once the process of the run has ended too
    viewer = signed_in(Role.VIEWER)
    for page in ("/ui/commands", f"/ui/commands/{begun.id}"):
        assert "It was interrupted" in viewer.text(page)
