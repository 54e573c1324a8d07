"""Heartbeat files as they are read."""

import json
import math
from pathlib import Path

import pytest

from bisnesctl.health import heartbeats
from bisnesctl.host.process_times import boottime
from bisnesctl.signals import instances
from tests.support.processes.servers import settings_in

CONTENT = {"process": "meta", "pid": 7, "status": "healthy", "reason": None, "sent": 3}


def test_a_heartbeat_has_its_age_and_its_figures(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.heartbeat_dir.mkdir(parents=True)
    file = settings.heartbeat_dir / "meta-worker-1.json"
    file.write_text(json.dumps(CONTENT | {"beat_boottime": boottime() - 5}))
    beat = heartbeats.read(file)
    assert beat is not None
    assert (beat.process, beat.pid, beat.reason, beat.values["sent"]) == ("meta", 7, "", 3)
    assert 5 <= beat.age_seconds < 60
    assert heartbeats.current(settings, "meta-worker-1") is not None


def test_one_of_before_the_boot_is_infinitely_old_and_counts_for_no_signal(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.heartbeat_dir.mkdir(parents=True)
    file = settings.heartbeat_dir / "meta-worker-1.json"
    file.write_text(json.dumps(CONTENT | {"beat_boottime": boottime() - 1}))
    assert [each.number("sent") for each in instances.in_files(settings, ["meta-worker-1", "gone"])] == [3]
    file.write_text(json.dumps(CONTENT | {"beat_boottime": boottime() + 1000}))
    beat = heartbeats.read(file)
    assert beat is not None
    assert beat.age_seconds == math.inf
    assert heartbeats.current(settings, "meta-worker-1") is None
    assert list(instances.in_files(settings, ["meta-worker-1"])) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "null", '{"beat_boottime": null}', "\udcff"])
def test_a_damaged_file_is_no_heartbeat(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, errors="surrogateescape")
    assert heartbeats.read(tmp_path / "x.json") is None
