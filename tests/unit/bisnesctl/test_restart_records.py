"""The record of a rolling restart that failed or was killed, as `status` and the guard read it."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bisnesctl.processes import restart_records
from bisnesctl.processes.restart_records import RestartRecord
from bisnesctl.processes.supervisor import Process


@pytest.fixture
def killed(tmp_path: Path) -> RestartRecord:
    """A rolling restart whose command ended without a word, a minute ago."""
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    record = restart_records.begin(tmp_path, "reload api", "api-0", ("api-1",))
    return replace(record, pid=int(child.stdout), at=time.time() - 60)


def running(name: str, uptime: float) -> Process:
    return Process(name, name, "RUNNING", 7, "", 0, uptime=uptime)


def stopped(name: str, ended_ago: float, lived: float) -> Process:
    return Process(name, name, "STOPPED", 0, "", 0, lived=lived, ended_at=time.time() - ended_ago)


def test_a_rolling_restart_under_way_is_no_news(tmp_path: Path) -> None:
    record = restart_records.begin(tmp_path, "reload api", "api-0", ("api-1",))
    assert restart_records.read(tmp_path) == record
    assert not record.interrupted
    assert record.remark("api-1", running("api-1", 1000)) == ""
    assert record.missing({"api-0": stopped("api-0", 0, 1000)}) == ""
    restart_records.finish(tmp_path)
    assert restart_records.read(tmp_path) is None


def test_what_a_killed_rolling_restart_did_not_reach_is_as_before(killed: RestartRecord) -> None:
    remark = killed.remark("api-1", running("api-1", 1000))
    assert remark.startswith("it is as before: the reload at ")
    assert remark.endswith("was interrupted; `bisnesctl reload api` tries again")
    assert killed.remark("api-1", running("api-1", 10)) == ""  # it was started since
    assert killed.remark("meta", running("meta", 1000)) == ""


def test_only_what_a_killed_rolling_restart_itself_stopped_is_missing(killed: RestartRecord) -> None:
    assert killed.missing({"api-0": stopped("api-0", 59, 1000)}) == "api-0"
    assert killed.missing({"api-0": stopped("api-0", 5, 20)}) == ""  # it was started since, and stopped again
    assert killed.missing({"api-0": stopped("api-0", 500, 1000)}) == ""  # it had been stopped before
    assert killed.missing({"api-0": running("api-0", 50)}) == ""
    assert killed.missing({}) == ""


def test_a_failure_says_what_was_stopped_and_why(killed: RestartRecord) -> None:
    failed = replace(killed, failed="api-0 did not become healthy")
    assert "stopped it, because it failed: api-0 did not" in failed.remark("api-0", stopped("api-0", 30, 10))
    assert "the reload at" in failed.remark("api-1", running("api-1", 1000))
    assert failed.missing({"api-0": stopped("api-0", 59, 1000)}) == ""


def test_another_command_leaves_the_marks_of_the_others(tmp_path: Path, killed: RestartRecord) -> None:
    everything = replace(killed, command="restart all", now="api-0", left=("api-1", "meta", "events"))
    restart_records.write(tmp_path, everything)
    restart_records.begin(tmp_path, "restart meta", "meta", ())
    before = {name: running(name, 1000) for name in ("api-1", "meta", "events")}
    during = restart_records.read(tmp_path)
    assert during is not None
    assert "the restart at" in during.remark("events", before["events"])
    restart_records.finish(tmp_path)
    after = restart_records.read(tmp_path)
    assert after == everything
    assert after.remark("meta", running("meta", 5)) == ""
    assert after.remark("meta", stopped("meta", 2, 5)) == ""  # it was restarted, and then stopped
    assert "was interrupted" in after.remark("api-1", before["api-1"])


def test_the_same_command_replaces_the_marks(tmp_path: Path, killed: RestartRecord) -> None:
    restart_records.write(tmp_path, replace(killed, earlier=(replace(killed, command="restart meta", now="meta"),)))
    restart_records.begin(tmp_path, killed.command, "api-0", ("api-1",))
    found = restart_records.read(tmp_path)
    assert found is not None
    assert [each.command for each in found.earlier] == ["restart meta"]
    restart_records.begin(tmp_path, killed.command, "api-1", ())
    restart_records.finish(tmp_path)
    found = restart_records.read(tmp_path)
    assert found is not None
    assert (found.command, found.earlier) == ("restart meta", ())


def test_what_an_earlier_rolling_restart_stopped_is_still_missing(tmp_path: Path, killed: RestartRecord) -> None:
    restart_records.write(tmp_path, killed)
    restart_records.begin(tmp_path, "restart meta", "meta", ())
    found = restart_records.read(tmp_path)
    assert found is not None
    assert found.missing({"api-0": stopped("api-0", 59, 1000)}) == "api-0"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"left": 3}', "{"])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / restart_records.FILE).write_text(text)
    assert restart_records.read(tmp_path) is None
