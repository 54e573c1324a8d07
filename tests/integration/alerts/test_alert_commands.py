"""`bisnesctl alerts`: what is wrong, silences, and the test of the targets."""

import time

import pytest

from bisnesctl.alerts import silences, state_file
from bisnesctl.alerts.deliveries import TargetRecord
from bisnesctl.alerts.incidents import Incident, Severity, Stage
from bisnesctl.alerts.state_file import AlertState
from bisnesctl.processes.deployment import make_folders, record_start
from bisnesctl.processes.topology import Mode
from tests.support.remote.alert_receiver import AlertReceiver

NOW = time.time()
FIRING = Incident(
    "a@1", "process_health[api-0]", "process_health", Severity.CRITICAL, "process api-0 does not work: \x1b[31mkilled",
    NOW - 100, {"process": "api", "name": "api-0"}, "process api-0", Stage.FIRING, NOW - 70,
)  # fmt: skip
FOLLOWER = Incident(
    "b@1", "outbox_oldest[meta]", "outbox_oldest", Severity.WARNING, "the oldest waits", NOW - 50,
    explained_by="postgres_health",
)  # fmt: skip
OVER = Incident(
    "c@1", "redis_health", "redis_health", Severity.WARNING, "Redis", NOW - 900, stage=Stage.RESOLVED,
    fired_at=NOW - 800, resolved_at=NOW - 700,
)  # fmt: skip


@pytest.fixture
def started(environment):
    """Settings of a deployment that was started, with the state of an evaluator."""

    def make(**variables):
        settings = environment(**variables)
        make_folders(settings)
        record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
        failing = TargetRecord(
            "slack 1", NOW - 1000, failures=3, next_at=NOW + 60, error="it refused", succeeded_at=NOW
        )
        state_file.write(settings.run_dir, AlertState((OVER, FIRING, FOLLOWER), {"key": failing}, NOW))
        return settings

    return make


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_has_everything_in_any_width(started, tool, width):
    started()
    shown = tool("alerts", "list", width=width)
    lines = shown.out.splitlines()
    places = [shown.out.index(each.name) for each in (FIRING, FOLLOWER, OVER)]
    assert places == sorted(places), "firing alerts come first, then pending ones"
    assert max(len(line) for line in lines if line.startswith(("firing", "pending", "resolved"))) <= 200
    for text in ("follows from postgres_health", "slack 1 failing: it refused", r"\x1b[31mkilled", "no alert is sent"):
        assert text in shown.text
    found = tool("alerts", "list", "--json").json
    assert [each["state"] for each in found["alerts"]] == ["firing", "pending", "resolved"]
    assert found["targets"][0]["state"] == "failing"


def test_a_silence_is_listed_and_ended(started, tool):
    settings = started()
    tool("alerts", "silence", "process_health", "--for", "1h30m", "--reason", "new [b]release")
    [silence] = silences.read(settings.run_dir)
    assert 5390 < silence.until - time.time() < 5410
    shown = tool("alerts", "list")
    assert "silenced until" in shown.out
    assert "new [b]release" in shown.out
    assert tool("alerts", "list", "--json").json["alerts"][0]["silenced_until"]
    tool("alerts", "unsilence", "process_health")
    assert silences.read(settings.run_dir) == []
    assert "There are: none" in tool("alerts", "unsilence", "process_health", code=2).text


@pytest.mark.parametrize("name", ["process_health[api-0]", "process_health", "process_*", "*", "disk_health[/srv]"])
def test_a_silence_may_name_an_alert_a_signal_or_a_pattern(started, tool, name):
    settings = started()
    tool("alerts", "silence", name)
    assert [each.name for each in silences.read(settings.run_dir)] == [name]


@pytest.mark.parametrize(
    "words", [("nonsense",), ("*", "--for", "soon"), ("*", "--for", "0s"), ("*", "--for", "9000d")]
)
def test_a_silence_that_means_nothing_is_refused(started, tool, words):
    settings = started()
    tool("alerts", "silence", *words, code=2)
    assert silences.read(settings.run_dir) == []


def test_a_pattern_covers_names_and_brackets_are_no_pattern():
    silence = silences.Silence("process_health[api-0]", NOW, "root", NOW)
    assert silence.covers("process_health[api-0]", "process_health")
    assert not silence.covers("process_healtha", "process_health")
    assert silences.Silence("*[api-*]", NOW, "root", NOW).covers("process_health[api-0]", "process_health")


def test_the_test_names_each_target_and_its_outcome(started, tool):
    receiver = AlertReceiver()
    started(ALERT_URLS=f"{receiver.url} nonsense json://u:hidden-word@127.0.0.1:1/hidden-path", ALERT_COMMAND="false")
    said = tool("alerts", "test", code=4)
    outcomes = {" ".join(line.split()[:-1] if line.endswith("accepted") else line.split()[:2]).rstrip(":"): line
                for line in said.out.splitlines()}  # fmt: skip
    assert outcomes["json 1"].endswith("accepted")
    assert "does not understand this address" in outcomes["url 2"]
    assert "failed" in outcomes["json 3"]
    assert "exit status 1" in said.out
    assert "3 of 4" in said.err
    assert "hidden" not in said.out + said.err
    assert receiver.titles == ["test"]
    receiver.close()


def test_without_a_target_the_test_says_what_to_set(started, tool):
    started()
    assert "ALERT_URLS" in tool("alerts", "test", code=3).text
