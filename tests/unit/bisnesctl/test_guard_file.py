"""The guard's file as others read it: whether the guard is on duty, and its decisions."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bisnesctl.health import guard_file
from bisnesctl.health.guard_file import GuardDecision, GuardStatus
from bisnesctl.processes.supervisor import Process
from tests.support.processes.servers import settings_in


def guard(folder: Path, written: Any, state: str = "RUNNING", pid: int = 7, uptime: float = 100) -> GuardStatus:
    """The status of a guard with this file and this process."""
    settings = settings_in(folder, MAX_HEARTBEAT_AGE="5000")
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / guard_file.GUARD_FILE).write_text(written if isinstance(written, str) else json.dumps(written))
    return guard_file.guard_status({"guard": Process("guard", "guard", state, pid, "", 0, uptime)}, settings)


def content(age: float = 0, **instances: Any) -> dict[str, Any]:
    return {"pid": 7, "beat_boottime": time.clock_gettime(time.CLOCK_BOOTTIME) - age, "instances": instances}


def test_a_guard_with_a_fresh_heartbeat_is_on_duty(tmp_path: Path) -> None:
    assert guard(tmp_path, content()) == GuardStatus("", {})


@pytest.mark.parametrize("state", ["STOPPED", "EXITED", "FATAL"])
def test_the_decisions_of_a_guard_that_is_down_remain(tmp_path: Path, state: str) -> None:
    found = guard(tmp_path, content(api={"decision": "fail", "reason": "enough"}), state, pid=0)
    assert found == GuardStatus("the guard is down", {"api": GuardDecision("fail", "enough", 0)})
    assert guard_file.guard_status({}, settings_in(tmp_path)).off_duty == "the guard is down"


def test_an_old_heartbeat_is_reported_with_its_age(tmp_path: Path) -> None:
    assert guard(tmp_path, content(age=6)).off_duty == "the guard has given no heartbeat for 6 s"


def test_a_new_guard_has_time_for_its_first_heartbeat(tmp_path: Path) -> None:
    assert guard(tmp_path, content(), pid=8, uptime=1) == GuardStatus("", {})
    assert guard(tmp_path, content(), pid=8).off_duty == "the guard gives no heartbeat"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"pid": 7}', '{"pid": 7, "beat_boottime": 1, "instances": 1}']
)
def test_a_damaged_file_is_no_heartbeat(tmp_path: Path, text: str) -> None:
    assert guard(tmp_path, text).off_duty == "the guard gives no heartbeat"


def test_decisions_include_their_time(tmp_path: Path) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = guard(
        tmp_path,
        content(
            a={"decision": "restart", "at": now + 600.2, "reason": "attempt 2 of 10", "deaths": 2},
            b={"decision": "block", "at": now + 3000, "reason": "3 failed starts"},
            c={"decision": "block", "at": None, "reason": "logged out"},
            d={"decision": "restart", "at": now - 5, "reason": "attempt 3 of 10", "deaths": 3},
        ),
    )
    waiting = found.decisions.get("a")
    assert waiting is not None
    assert waiting.deaths == 2
    assert waiting.reason.startswith("restarting in ")
    assert waiting.reason.endswith(" s: attempt 2 of 10")
    until = time.strftime("%H:%M", time.localtime(time.time() + 3000))
    assert found.decisions.get("b") == GuardDecision("block", f"blocked until {until}: 3 failed starts", 0)
    assert found.decisions.get("c") == GuardDecision("block", "blocked: logged out", 0)
    assert found.decisions.get("d") == GuardDecision("restart", "restarting in 0 s: attempt 3 of 10", 3)
    assert found.decisions.get("nobody") is None
