"""Staged troubles of a whole deployment: for each of them one alert comes, and one recovery."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import Deployment, descendants
from tests.support.remote.alert_receiver import AlertReceiver
from tests.support.waiting import wait_until

#: Alerts about the machine of the tests, which is always busy.
BUSY = ("host_load", "host_memory_available", "response_time", "disk_", "heartbeat_age", "clock_offset", "measured")
#: A trouble holds for half a minute before anybody is notified, and tests share the machine.
PATIENCE_SECONDS = 180.0


class Alerts:
    """The messages that a deployment sent to a command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def events(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.file.read_text().splitlines()]
        return []

    def messages(self, change: str, since: int = 0) -> list[list[str]]:
        """For each message with such a change: the alerts in it that are not about the machine."""
        found = []
        for event in self.events()[since:]:
            names = [each["name"] for each in event["alerts"] if each["change"] == change]
            found.append([name for name in names if not name.startswith(BUSY)])
        return [names for names in found if names]


@pytest.fixture(scope="module")
def receiver() -> Iterator[AlertReceiver]:
    made = AlertReceiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, receiver: AlertReceiver) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    made = Deployment(
        folder, HEARTBEAT_INTERVAL="500", MAX_HEARTBEAT_AGE="5000", API_INSTANCES="1", META_INSTANCES="1",
        ENABLE_WWEBJS="false", ALERT_CHECK_INTERVAL="1000", ALERT_RESOLVE_SECONDS="5", ALERT_URLS=receiver.url,
        ALERT_COMMAND=f"tee -a {folder / 'alerts.jsonl'}",
    )  # fmt: skip
    try:
        made.run("start", "--multiprocess", "--sandbox")
        made.add_demo_bot()
        yield made
    finally:
        made.close()


@pytest.fixture
def alerts(deployment: Deployment) -> Alerts:
    return Alerts(deployment.folder / "alerts.jsonl")


def expect(alerts: Alerts, names: tuple[str, ...], begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Stages a trouble, and expects one message about alerts with these beginnings, and one when it is over."""
    before = len(alerts.events())

    def begun() -> list[list[str]]:
        begin()
        return alerts.messages("fired", before)

    fired = wait_until(begun, PATIENCE_SECONDS, lambda: str(alerts.events()[before:]), pause=0.5)
    end()
    resolved = wait_until(lambda: alerts.messages("resolved", before), PATIENCE_SECONDS, pause=0.5)
    time.sleep(5)  # nothing more comes
    fired, resolved = alerts.messages("fired", before), alerts.messages("resolved", before)
    assert (len(fired), len(resolved)) == (1, 1), (fired, resolved)
    assert all(name.startswith(names) for name in fired[0] + resolved[0]), (fired, resolved)


def frozen(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def test_a_process_that_crashes_again_and_again(deployment: Deployment, alerts: Alerts) -> None:
    expect(
        alerts, ("process_health[events]", "restarts[events"),
        lambda: deployment.kill("events"),
        lambda: wait_until(lambda: deployment.status()["events"]["status"] == "healthy", PATIENCE_SECONDS),
    )  # fmt: skip


def test_an_unavailable_postgresql_mutes_what_follows_from_it(deployment: Deployment, alerts: Alerts) -> None:
    pid = deployment.pid("postgres")
    pids = [pid, *descendants(pid)]
    expect(
        alerts, ("postgres_health", "process_health[postgres]"),
        lambda: frozen(pids, signal.SIGSTOP),
        lambda: frozen([pid, *descendants(pid)], signal.SIGCONT),
    )  # fmt: skip


def test_a_guard_that_does_nothing_and_an_operators_stop(deployment: Deployment, alerts: Alerts) -> None:
    deployment.run("stop", "events")
    pid = deployment.pid("guard")
    expect(
        alerts, ("guard_age", "process_health[guard]"),
        lambda: frozen([pid], signal.SIGSTOP),
        lambda: frozen([pid], signal.SIGCONT),
    )  # fmt: skip
    deployment.run("restart", "events")


def test_a_token_that_expired(deployment: Deployment, alerts: Alerts) -> None:
    deployment.behave(error_code=190, times=1)
    once = iter([None])

    def renew() -> None:
        deployment.run(
            "bots", "add", "--company", "0100", "--phone", "0", "--type", "meta_direct", "--phone-number-id", "1001000",
            "--token-stdin", given="a-new-token\n",
        )  # fmt: skip

    expect(
        alerts, ("bot_health[0100-0]", "token_expires_in"),
        lambda: [deployment.send("0100", "420777000001", "hello") for _ in once], renew,
    )  # fmt: skip


def test_a_killed_evaluator_comes_back_and_sends_nothing_twice(deployment: Deployment, alerts: Alerts) -> None:
    before = len(alerts.events())
    pid = deployment.pid("alerts")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: deployment.status()["alerts"]["status"] == "healthy" and deployment.pid("alerts") != pid)
    time.sleep(5)
    assert alerts.messages("fired", before) == []
    deployment.run("stop", "alerts")
    row = deployment.status()["alerts"]
    assert "nothing sends alerts" in row["reason"]
    assert "nothing sends alerts" in deployment.run("status").stdout
    assert "nothing sends alerts" in deployment.run("alerts", "list").stdout
    deployment.run("restart", "alerts")


def test_every_alert_is_a_process_event_and_reached_both_targets(
    deployment: Deployment, alerts: Alerts, receiver: AlertReceiver
) -> None:
    rows = deployment.rows(
        "SELECT event_data ->> 'alert', event_type FROM process_events WHERE event_type LIKE 'alert%'"
    )
    assert ("postgres_health", "alert_fired") in rows
    assert ("postgres_health", "alert_resolved") in rows
    assert any("postgres_health" in title for title in receiver.titles)
    found = json.loads(deployment.run("alerts", "list", "--json").stdout)
    assert {"alerts", "silences", "targets", "remarks", "evaluated_at"} <= found.keys()
    done = deployment.run("alerts", "test")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["accepted", "accepted"]
    assert "hidden" not in done.stdout + done.stderr + deployment.logs()
