"""Costly readings are measured less often, but at once if what it depends on changes."""

import pytest

from bisnesctl.signals.machine import HOST_LOAD
from bisnesctl.signals.measurement import _Slow
from bisnesctl.signals.signal import Reading


def test_readings_are_used_until_they_are_old_or_their_key_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, measured = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    slow = _Slow(60)

    def measure() -> list[Reading]:
        measured.append(now[0])
        return [Reading(HOST_LOAD, now[0])]

    assert slow.read("a", measure)[0].value == 100
    now[0] = 159
    assert slow.read("a", measure)[0].value == 100
    assert slow.read("b", measure)[0].value == 159
    now[0] = 219
    assert slow.read("b", measure)[0].value == 219
    assert measured == [100, 159, 219]


def test_a_failure_is_not_kept() -> None:
    slow = _Slow(60)

    def fail() -> list[Reading]:
        raise OSError("no route to host")

    with pytest.raises(OSError, match="no route"):
        slow.read("a", fail)
    assert slow.read("a", list) == []
    with pytest.raises(OSError, match="no route"):
        slow.read("b", fail)
