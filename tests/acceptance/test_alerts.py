"""Staged troubles of a whole deployment: for each of them one alert comes, and one recovery."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.alert_watch import ALERT_SECONDS, AlertWatch, SentAlerts
from tests.support.deployment import Deployment, descendants
from tests.support.remote.alert_receiver import AlertReceiver
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def receiver() -> Iterator[AlertReceiver]:
    made = AlertReceiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, receiver: AlertReceiver) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    # An evaluation takes some seconds while a server hangs, and the evaluator gives its heartbeat after it.
    made = Deployment(
        folder, HEARTBEAT_INTERVAL="1000", MAX_HEARTBEAT_AGE="15000", API_INSTANCES="1", META_INSTANCES="1",
        ENABLE_WWEBJS="false", ALERT_CHECK_INTERVAL="1000", ALERT_RESOLVE_SECONDS="5", ALERT_URLS=receiver.url,
        ALERT_COMMAND=SentAlerts(folder / "alerts.jsonl").command,
    )  # fmt: skip
    try:
        made.run("start", "--multiprocess", "--sandbox")
        made.add_demo_bot()
        yield made
    finally:
        made.close()


@pytest.fixture
def alerts(deployment: Deployment) -> SentAlerts:
    return SentAlerts(deployment.folder / "alerts.jsonl")


@pytest.fixture
def watch(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertWatch:
    """An evaluator of the test's own, which does not wait as long as the deployment's."""
    return AlertWatch(deployment, tmp_path / "alerts.jsonl", monkeypatch)


def expect(alerts: SentAlerts, names: tuple[str, ...], begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Stages a trouble, and expects one message about alerts with these beginnings, and one when it is over."""
    before, began = len(alerts.events()), time.time()

    def messages(change: str) -> list[list[str]]:
        return alerts.messages(change, before, names, begun_after=began)

    def begun() -> list[list[str]]:
        begin()
        return messages("fired")

    wait_until(begun, ALERT_SECONDS, lambda: str(alerts.events()[before:]), pause=1.0)
    end()
    wait_until(lambda: messages("resolved"), ALERT_SECONDS, lambda: str(alerts.events()[before:]), pause=0.5)
    time.sleep(5)  # nothing more comes
    fired, resolved = messages("fired"), messages("resolved")
    assert (len(fired), len(resolved)) == (1, 1), (fired, resolved)
    assert all(name.startswith(names) for name in fired[0] + resolved[0]), (fired, resolved)


def frozen(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def recovered(deployment: Deployment, *stopped: str) -> bool:
    """Whether all processes but the stopped ones are healthy: they need their time, and the test's clock hurries."""
    rows = deployment.status()
    return all(row["status"] == "healthy" for name, row in rows.items() if name not in stopped)


def test_a_process_that_crashes_again_and_again(deployment: Deployment, alerts: SentAlerts) -> None:
    expect(
        alerts, ("process_health[events]", "restarts[events"),
        lambda: deployment.kill("events"),
        lambda: wait_until(lambda: deployment.status()["events"]["status"] == "healthy", ALERT_SECONDS),
    )  # fmt: skip


def test_a_killed_evaluator_comes_back_and_sends_nothing_twice(deployment: Deployment, alerts: SentAlerts) -> None:
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


def test_a_dead_supervisord(deployment: Deployment, alerts: SentAlerts) -> None:
    """Its evaluator outlives it; the next start replaces that, which neither loses nor repeats a message."""
    pid = int((deployment.settings.run_dir / "supervisord.pid").read_text())
    expect(
        alerts, ("supervisord_health",),
        lambda: frozen([pid], signal.SIGKILL),
        lambda: deployment.run("start", "--multiprocess", "--sandbox"),
    )  # fmt: skip


def test_every_alert_is_a_process_event_and_reached_both_targets(
    deployment: Deployment, alerts: SentAlerts, receiver: AlertReceiver
) -> None:
    query = "SELECT event_data ->> 'alert', event_type FROM process_events WHERE event_type LIKE 'alert%'"
    for change in ("fired", "resolved"):
        sent = {(name, f"alert_{change}") for names in alerts.messages(change) for name in names}
        assert {name for name, _ in sent} >= {"supervisord_health"}
        wait_until(lambda: sent <= set(deployment.rows(query)), what=deployment.logs)  # noqa: B023 - waited for here
    assert any("supervisord_health" in title for title in receiver.titles)
    found = json.loads(deployment.run("alerts", "list", "--json").stdout)
    assert {"alerts", "silences", "targets", "remarks", "evaluated_at"} <= found.keys()
    done = deployment.run("alerts", "test")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["accepted", "accepted"]
    assert "hidden" not in done.stdout + done.stderr + deployment.logs()


# --- On a clock that hurries: the deployment's own evaluator does the same in its own time -------------------------


def test_an_unavailable_postgresql_mutes_what_follows_from_it(deployment: Deployment, watch: AlertWatch) -> None:
    pid = deployment.pid("postgres")
    with watch.expected("postgres_health", "process_health[postgres]") as fired:
        frozen([pid, *descendants(pid)], signal.SIGSTOP)
        try:
            fired()
        finally:
            frozen([pid, *descendants(pid)], signal.SIGCONT)
        wait_until(lambda: recovered(deployment), ALERT_SECONDS, lambda: str(deployment.status()))


def test_a_guard_that_does_nothing_and_an_operators_stop(deployment: Deployment, watch: AlertWatch) -> None:
    deployment.run("stop", "events")
    pid = deployment.pid("guard")
    with watch.expected("guard_age", "process_health[guard]") as fired:
        frozen([pid], signal.SIGSTOP)
        try:
            fired()
        finally:
            frozen([pid], signal.SIGCONT)
        wait_until(lambda: recovered(deployment, "events"), ALERT_SECONDS, lambda: str(deployment.status()))
    deployment.run("restart", "events")


def test_a_token_that_expired(deployment: Deployment, watch: AlertWatch) -> None:
    with watch.expected("bot_health[0100-0]", "token_expires_in") as fired:
        deployment.behave(error_code=190, times=1)
        deployment.send("0100", "420777000001", "hello")
        fired()
        deployment.run(
            "bots", "add", "--company", "0100", "--phone", "0", "--type", "meta_direct", "--phone-number-id", "1001000",
            "--token-stdin", given="a-new-token\n",
        )  # fmt: skip


def test_a_wrong_setting(deployment: Deployment, watch: AlertWatch) -> None:
    env_file = deployment.folder / ".env"
    before = env_file.read_text()
    with watch.expected("settings_health") as fired:
        env_file.write_text(f"{before}META_ATTEMPTS=many\n")
        fired()
        env_file.write_text(before)


def test_an_unavailable_redis(deployment: Deployment, watch: AlertWatch) -> None:
    pid = deployment.pid("redis")
    with watch.expected("redis_health", "process_health[redis]") as fired:
        frozen([pid], signal.SIGSTOP)
        try:
            fired()
        finally:
            frozen([pid], signal.SIGCONT)
        wait_until(lambda: recovered(deployment), ALERT_SECONDS, lambda: str(deployment.status()))


def test_a_chat_that_its_provider_limits(deployment: Deployment, watch: AlertWatch) -> None:
    chat = "420777000002"
    due = f"SELECT 1 FROM lane WHERE chat_id = '{chat}' AND due > now() + interval '8 seconds'"
    sent = f"SELECT count(*)::int FROM outbox WHERE chat_id = '{chat}' AND status IN ('sent', 'delivered', 'read')"
    with watch.expected("outbox_refused[meta]") as fired:
        deployment.behave(times=3, error_code=131056, match="too many")
        for text in ("too many", "behind it"):
            assert deployment.send("0100", chat, text).status_code == 202
        # It is tried again after 1, 4 and 16 seconds. The others of the number are sent meanwhile.
        wait_until(lambda: deployment.rows(due))
        deployment.rows(f"UPDATE outbox SET accepted_at = now() - interval '5 minutes' WHERE chat_id = '{chat}'")
        fired()
        deployment.rows(f"UPDATE lane SET due = now() WHERE chat_id = '{chat}'")
        wait_until(lambda: deployment.rows(sent) == [(2,)])


def test_a_slow_provider(deployment: Deployment, watch: AlertWatch) -> None:
    texts = (f"4207771{number:05}" for number in range(100_000))

    def send(text: str, count: int) -> None:
        for chat, _ in zip(texts, range(count), strict=False):
            assert deployment.send("0100", chat, text).status_code == 202

    with watch.expected("response_time[meta-worker") as fired:
        deployment.behave(times=12, delay_ms=4000, match="slowly")
        send("slowly", 12)
        fired()
        send("quickly", 150)  # the average of a minute falls
