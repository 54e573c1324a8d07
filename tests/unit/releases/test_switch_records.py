"""The record of a switch that is under way keeps other commands out, unless its process is gone."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest

from bisnesctl.errors import Conflict
from bisnesctl.host import process_stat
from bisnesctl.processes import switch_records
from bisnesctl.processes.switch_records import PART_OF, Stage, begin


@pytest.fixture
def home(tmp_path):
    (tmp_path / "releases").mkdir()
    return tmp_path


@pytest.fixture
def other():
    """Another process that lives."""
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def record_of(child):
    started = process_stat.read(child.pid).started_at
    return replace(begin(1, 2), stage=Stage.WATCHING, pid=child.pid, pid_started=started, ran=("api-0",))


def test_a_record_is_read_as_it_was_written(home, other):
    record = record_of(other)
    switch_records.write(home, record)
    assert switch_records.read(home) == record
    switch_records.remove(home)
    assert switch_records.read(home) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stage": "unknown", "ran": []}'])
def test_a_damaged_record_is_none(home, content):
    (home / "releases" / switch_records.FILE).write_text(content)
    assert switch_records.read(home) is None


def test_other_commands_are_refused_and_hear_which_one_is_under_way(home, other, monkeypatch):
    switch_records.write(home, record_of(other))
    with pytest.raises(Conflict, match=rf"`bisnesctl release switch 2` is watching here \(pid {other.pid}\)"):
        switch_records.refuse_others(home)
    monkeypatch.setenv(PART_OF, str(other.pid))  # a step of it
    switch_records.refuse_others(home)


def test_the_process_itself_and_others_after_its_end_are_not_refused(home, other):
    switch_records.write(home, record_of(other).taken_over())
    switch_records.refuse_others(home)
    switch_records.write(home, record_of(other))
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert switch_records.read(home).interrupted
    switch_records.refuse_others(home)


def test_a_later_process_with_the_same_pid_is_another_one(other):
    assert not record_of(other).interrupted
    assert replace(record_of(other), pid_started=1.0).interrupted
