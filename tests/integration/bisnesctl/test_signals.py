"""Signals are measured, from a database and without anything; `health` judges them; `/metrics` shows them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bisnesctl.__main__ import main
from bisnesctl.database import postgres
from bisnesctl.health.verdict import Verdict
from bisnesctl.retention import run as retention
from bisnesctl.signals import cache, history
from bisnesctl.signals.judgement import Thresholds, in_one_line, judge_all
from bisnesctl.signals.measurement import measure
from bisnesctl.signals.ranges import parse
from bisnesctl.signals.signal import Reading, Readings
from bisnesctl.signals.table import BY_NAME
from bisnesctl.terminal import output
from services.database.connection import Database
from services.runtime.heartbeat import Counters, Heartbeat
from tests.support.api import api
from tests.support.measurement import BOT, NOWHERE, WAITING, deployment_of, execute, values
from tests.support.sandbox import eventually
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def deployment(database, tmp_path):
    return deployment_of(database, tmp_path)


@pytest.fixture
def away(tmp_path):
    return deployment_of(NOWHERE, tmp_path)


# Measuring


def test_an_empty_deployment_has_all_its_queues_at_zero(deployment):
    found = measure(deployment)
    assert found.unmeasured.keys() <= {"process_health", "memory_used", "memory_of_limit", "redis_health"}
    assert values(found, "outbox_oldest") == {"meta": 0, "wwebjs": 0}
    assert values(found, "dead_letters") == dict.fromkeys(
        ("messages", "unknown", "webhooks-in", "webhooks-out", "media"), 0
    )
    assert set(values(found, "outbox_waiting").values()) == {0}
    assert abs(values(found, "clock_offset")[""]) < 60
    assert 0 < values(found, "postgres_connections_used")[""] < 1


def test_a_message_that_no_worker_sends_is_an_age_and_a_lack_of_progress(deployment):
    execute(deployment, BOT, WAITING)
    found = measure(deployment)
    assert values(found, "outbox_waiting")["meta,ready"] == 1
    assert 1000 <= values(found, "outbox_oldest")["meta"] < 2000
    assert 1000 <= values(found, "outbox_progress")["meta"] < 2000
    assert values(found, "outbox_oldest")["wwebjs"] == 0


def test_a_queue_that_moves_makes_progress_although_its_oldest_message_is_old(deployment):
    execute(deployment, BOT, WAITING)
    settings = deployment.settings
    with contextlib.closing(Database(settings.database_dsn)) as database:
        counters = Counters()
        heart = Heartbeat(settings, database, "meta", "meta-worker-1", os.getpid(), counters)
        counters.sent = 1
        heart.write_file()
        found = measure(deployment)
    assert values(found, "outbox_oldest")["meta"] >= 1000
    assert values(found, "outbox_progress")["meta"] < 900


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("UPDATE bot_pace SET held_until = 'infinity', held_reason = 'no token', hold_code = '190'", "held"),
        ("UPDATE lane SET due = now() + interval '1 hour'", "delayed"),
    ],
)
def test_messages_that_wait_on_purpose_are_no_old_ones(deployment, statement, state):
    execute(deployment, BOT, WAITING, statement)
    found = measure(deployment)
    assert values(found, "outbox_waiting") == {
        f"{process},{each}": float((process, each) == ("meta", state))
        for process in ("meta", "wwebjs")
        for each in ("ready", "delayed", "held")
    }
    assert values(found, "outbox_oldest")["meta"] == 0


def test_a_held_bot_is_counted_and_named(deployment):
    execute(deployment, BOT, "UPDATE bot_pace SET held_until = 'infinity', held_reason = 'no token', hold_code = '190'")
    found = measure(deployment)
    assert values(found, "bots_in_trouble")["waiting"] == 1
    assert values(found, "bot_health") == {"0128-0": 1}
    assert [each.name for each in found.findings["bots"]] == ["bot 0128-0"]


def test_the_retention_says_when_it_ran_and_what_it_deleted(deployment):
    [age] = measure(deployment).readings.of("retention_age")
    assert age.reason == "it never ran"
    assert 0 <= age.value < 10_800  # since the database was made, which many tests copy
    execute(
        deployment,
        "INSERT INTO process_metrics (process_name, metric_name, metric_value, timestamp)"
        " SELECT 'api', 'old', 1, now() - interval '8 days' FROM generate_series(1, 3)",
    )
    with postgres.command_connection(deployment.settings) as connection:
        retention.run(connection, deployment.settings)
    [age] = measure(deployment).readings.of("retention_age")
    assert 0 <= age.value < 600
    assert age.reason.endswith("removed 3 metrics")
    assert values(measure(deployment), "retention_deleted") == {"": 3}
    execute(deployment, "UPDATE retention_run SET at = now() - interval '2 days', failed = '{\"metrics\": \"why\"}'")
    [age] = measure(deployment).readings.of("retention_age")
    assert age.value > 86400
    assert age.reason.endswith("it failed for metrics: why")
    judged = {reading.signal.name: verdict for reading, verdict in judge_all(measure(deployment)).readings}
    assert "retention_age" not in judged  # supervisord is down, which explains it


def test_a_customers_webhook_with_many_chats_is_measured(deployment):
    execute(
        deployment,
        "INSERT INTO webhook (id, company_id, url, events, secret_encrypted, failures) VALUES "
        "('01934f7e-5bb0-7f41-9d41-000000000001', '0128', 'https://a.example', '{*}', '', 0), "
        "('01934f7e-5bb0-7f41-9d41-000000000002', '0128', 'https://b.example', '{*}', '', 3)",
        "INSERT INTO webhook_lane (webhook_id, chat_id, pending) SELECT id, n::text, 1 "
        "FROM webhook, generate_series(1, 8000) n",
        "INSERT INTO webhook_delivery (webhook_id, chat_id, seq, event_id, created_at) "
        "SELECT id, n::text, n, n::text, now() - interval '300 seconds' FROM webhook, generate_series(1, 8000) n",
    )
    found = measure(deployment)
    assert values(found, "webhooks_waiting") == {"working": 8000, "failing": 8000}
    assert 300 <= values(found, "webhooks_oldest")[""] < 1000
    assert values(found, "webhooks_failing")[""] == 1


def test_webhooks_that_wait_have_an_age(deployment):
    execute(
        deployment,
        "INSERT INTO webhook_inbox (process_name, body, received_at) "
        "VALUES ('meta', 'x', now() - interval '90 seconds')",
        "INSERT INTO webhook_inbox (process_name, body, processed_at, error) VALUES ('meta', 'x', now(), 'why')",
    )
    found = measure(deployment)
    assert values(found, "inbox_waiting") == {"meta": 1}
    assert 90 <= values(found, "inbox_oldest")["meta"] < 600
    assert values(found, "dead_letters")["webhooks-in"] == 1


def test_sessions_are_counted_by_their_state(deployment):
    execute(
        deployment,
        "INSERT INTO phone_configs (company_id, phone_index) VALUES ('0128', 1), ('0128', 2), ('0128', 3)",
        "INSERT INTO wa_session (bot_id, state) SELECT id, 'WORKING' FROM phone_configs WHERE phone_index < 3",
        "INSERT INTO wa_block (bot_id, kind, reason, until) SELECT id, 'banned', 'why', 'infinity' FROM phone_configs"
        " WHERE phone_index = 2",
    )
    found = values(measure(deployment), "sessions")
    assert (found["WORKING"], found["BLOCKED"], found["STOPPED"]) == (1, 1, 1)


def test_a_token_that_expires_first_is_the_one_that_counts(deployment):
    soon = int(time.time()) + 86400
    execute(
        deployment,
        BOT,
        "INSERT INTO bot_check (bot_id, status, report) SELECT id, 'ok',"
        f" '{{\"token_expires_at\": {soon}}}' FROM phone_configs",
    )
    [reading] = measure(deployment).readings.of("token_expires_in")
    assert 0 < reading.value <= 86400
    assert "0128-0" in reading.reason


def test_without_anything_the_rest_is_measured_and_what_is_missing_is_named(away):
    found = measure(away)
    assert values(found, "supervisord_health") == {"": 2}
    assert values(found, "postgres_health") == {"": 2}
    assert values(found, "disk_free")
    assert values(found, "host_memory_available")
    assert {"outbox_oldest", "sessions", "retention_age", "clock_offset"} <= found.unmeasured.keys()
    assert {each.labels["signal"] for each in found.readings.of("measured")} <= BY_NAME.keys()


def test_a_database_that_was_not_migrated_is_a_reason(deployment):
    execute(deployment, "DROP TABLE retention_run")
    found = measure(deployment)
    assert "retention_run" in found.unmeasured["retention_age"]
    assert values(found, "outbox_oldest") == {"meta": 0, "wwebjs": 0}


def test_instances_of_other_machines_are_measured_from_the_database(deployment):
    execute(
        deployment,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat,"
        " messages_sent, figures) VALUES ('meta', 'north', 'meta-worker-1', 1, 'healthy', now(),"
        ' now() - interval \'40 seconds\', 7, \'{"poolSize": 4, "poolUsed": 1, "failures": {"131026": 2}}\')',
    )
    found = measure(deployment)
    assert values(found, "messages_sent") == {"meta,meta-worker-1,north": 7}
    assert values(found, "pool_used") == {"meta,meta-worker-1,north": 0.25}
    assert values(found, "failures") == {"meta,meta-worker-1,north,131026": 2}
    [age] = found.readings.of("heartbeat_age")
    assert 40 <= age.value < 400
    assert age.name == "heartbeat_age[meta-worker-1@north]"


# Judging


def test_the_line_of_a_probe_has_words_and_performance_data(deployment):
    execute(deployment, BOT, WAITING)
    verdict, line = in_one_line(measure(deployment), Thresholds(only=["outbox_oldest"]))
    assert verdict is Verdict.CRITICAL
    assert line.startswith("BISNES CRITICAL - the oldest meta message that could be sent has waited for 16m ")
    words, _, data = line.partition(" | ")
    assert data.split()[1] == "'outbox_oldest[wwebjs]'=0s;120;600"
    assert "|" not in words + data


@pytest.mark.parametrize(
    ("warning", "critical", "verdict"),
    [
        ("5000", "6000", Verdict.OK),
        ("500", "6000", Verdict.WARNING),
        ("@500:5000", "6000", Verdict.WARNING),
        ("~:5000", "~:500", Verdict.CRITICAL),
        ("2000:", "5000", Verdict.WARNING),
    ],
)
def test_an_operator_sets_other_ranges(deployment, warning, critical, verdict):
    execute(deployment, BOT, WAITING)
    ranges = {"outbox_oldest": parse(warning)}, {"outbox_oldest": parse(critical)}
    assert judge_all(measure(deployment), Thresholds(*ranges, only=["outbox_oldest"])).verdict is verdict


def test_a_signal_that_was_asked_for_and_not_measured_is_unknown(away):
    verdict, line = in_one_line(measure(away), Thresholds(only=["outbox_oldest"]))
    assert verdict is Verdict.UNKNOWN
    assert line.startswith("BISNES UNKNOWN - outbox_oldest could not be measured: PostgreSQL cannot be reached")


# The cache and /metrics


def test_a_measurement_is_cached_for_others(deployment):
    found = measure(deployment)
    again = cache.read(deployment.settings.run_dir)
    assert again is not None
    assert again.at == found.at
    assert [(each.name, each.value, each.reason) for each in again.values] == [
        (each.name, each.value, each.reason) for each in found.readings.values
    ]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"at": 1}', '{"at": 1, "values": [[1]], "unmeasured": {}}', "null"])
def test_a_damaged_cache_is_none(tmp_path, text):
    (tmp_path / cache.CACHE_FILE).write_text(text)
    assert cache.read(tmp_path) is None


def families(answer):
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return {each.name: each for each in text_string_to_metric_families(answer.text)}


def samples(answer, name):
    found = families(answer).get(name)
    return [(each.labels, each.value) for each in found.samples] if found else []


def test_metrics_show_the_whole_deployment(deployment):
    settings = deployment.settings
    execute(deployment, BOT, WAITING)
    counters = Counters(sent=4, failures=Counter({"131026": 2}))
    with contextlib.closing(Database(settings.database_dsn)) as database, api(settings) as (_, client):
        Heartbeat(settings, database, "meta", "meta-worker-1", os.getpid(), counters).write_file()
        answer = client.get("/metrics")
    [(labels, sent)] = samples(answer, "bisnes_messages_sent")
    assert (labels["process"], labels["name"], sent) == ("meta", "meta-worker-1", 4)
    [(labels, failed)] = samples(answer, "bisnes_failures")
    assert (labels["code"], failed) == ("131026", 2)
    assert ({"process": "meta", "state": "ready"}, 1) in samples(answer, "bisnes_outbox_waiting")
    [(_, age)] = samples(answer, "bisnes_measurement_age_seconds")
    assert 0 <= age < 600


def test_metrics_work_without_the_database(away):
    settings = away.settings
    with contextlib.closing(Database(NOWHERE)) as database, api(settings) as (_, client):
        Heartbeat(settings, database, "meta", "meta-worker-1", os.getpid(), Counters(sent=4)).write_file()
        eventually(lambda: samples(client.get("/metrics"), "bisnes_messages_sent"))
        answer = client.get("/metrics")
    assert samples(answer, "bisnes_postgres_health_severity") == [({}, 2)]


def test_a_scrape_does_not_measure_while_another_program_does(deployment):
    with api(deployment.settings) as (_, client):
        cache.write(deployment.settings.run_dir, Readings([Reading(BY_NAME["host_load"], 0.25)], at=time.time()))
        assert samples(client.get("/metrics"), "bisnes_host_load_ratio") == [({}, 0.25)]
        cache.write(deployment.settings.run_dir, Readings([Reading(BY_NAME["host_load"], 0.5)], at=time.time() - 3600))
        with cache.measuring(deployment.settings.run_dir) as alone:
            assert alone
            answer = client.get("/metrics")
            assert samples(answer, "bisnes_host_load_ratio") == [({}, 0.5)]
            [(_, age)] = samples(answer, "bisnes_measurement_age_seconds")
            assert age >= 3600
        eventually(lambda: samples(client.get("/metrics"), "bisnes_measurement_age_seconds")[0][1] < 3600)


def test_metrics_are_for_names_of_this_server(deployment):
    with api(deployment.settings) as (_, client):
        answer = client.get("/metrics", headers={"Host": "evil.example.com"})
    assert answer.status_code == 403


# History


def test_the_files_survive_writers_at_the_same_time(tmp_path):
    def write():
        for each in range(50):
            cache.keep(tmp_path, Readings(), {"x": [(time.time(), float(each))]})

    write()
    threads = [threading.Thread(target=write) for _ in range(3)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        assert len(history.read(tmp_path)["x"]) == 1
        assert cache.read(tmp_path) is not None


# The command


@pytest.fixture
def tool(deployment, monkeypatch, capsys):
    """Runs `bisnesctl health` on the deployment; returns its exit code and its output."""
    env = deployment.settings.run_dir.parent / ".env"
    env.write_text(f"BISNES_HOME={deployment.settings.home}\nDATABASE_URL={deployment.settings.database_dsn}\n")
    monkeypatch.setenv("BISNES_ENV", str(env))

    def run(*arguments):
        for console in (output.out, output.err):
            console.cache_clear()
        capsys.readouterr()
        code = main(["health", *arguments])
        for console in (output.out, output.err):
            console.cache_clear()
        return code, capsys.readouterr().out

    return run


def test_a_probe_of_one_signal_uses_the_ranges_that_were_typed(deployment, tool):
    execute(deployment, BOT, WAITING)
    code, line = tool("--probe", "--only", "outbox_oldest", "-w", "5000", "-c", "6000")
    assert (code, line.count("\n")) == (0, 1)
    assert line.startswith("BISNES OK - outbox_oldest[meta] 16m ")
    assert line.rstrip().endswith("'outbox_oldest[wwebjs]'=0s;5000;6000")
    assert tool("--probe", "--only", "outbox_oldest", "-c", "outbox_oldest=10:100")[0] == 2
    assert tool("--probe", "--only", "outbox_waiting,dead_letters", "--only", "bots")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "outbox_older"), "did you mean outbox_oldest"),
        (("-w", "10"), "names no signal"),
        (("-w", "outbox_oldest=x"), "is no range"),
    ],
)
def test_a_probe_that_was_typed_wrong_is_unknown(tool, arguments, words):
    code, line = tool("--probe", *arguments)
    assert (code, line.startswith("BISNES UNKNOWN - ")) == (3, True)
    assert words in line


def test_json_has_each_signal_with_its_verdict(deployment, tool):
    execute(deployment, BOT, WAITING)
    code, text = tool("--json")
    found = json.loads(text)
    assert (code, found["verdict"]) == (5, "critical")
    assert found.keys() == {"verdict", "processes", "disks", "settings", "bots", "signals", "unmeasured"}
    [waiting] = [each for each in found["signals"] if each["signal"] == "outbox_oldest" and each["value"]]
    assert (waiting["labels"], waiting["unit"], waiting["verdict"]) == ({"process": "meta"}, "seconds", "critical")


def test_a_probe_that_takes_too_long_is_unknown(deployment, tmp_path):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:  # accepts, and never answers
        port = silent.getsockname()[1]
        env = tmp_path / "slow.env"
        env.write_text(f"BISNES_HOME={deployment.settings.home}\nDATABASE_URL=postgresql://x@127.0.0.1:{port}/x\n")
        done = subprocess.run(
            [sys.executable, "-m", "bisnesctl", "health", "--probe", "-t", "0.2"],
            env={**os.environ, "BISNES_ENV": str(env)},
            capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "BISNES UNKNOWN - not measured within 0.2 s\n")
