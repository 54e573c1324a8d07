"""Heartbeats of processes, and the health that the API reports, with and without the database."""

import contextlib
import json
import os
import threading
import time
from collections import Counter

import psycopg2
import pytest

from bisnesctl.alerts import __main__ as alerts
from bisnesctl.database import process_health
from services.api.openapi import Problem
from services.api.schemas.base import Alive, AllHealth, Metrics
from services.database.bounded_query import BoundedQuery
from services.database.connection import Database, DatabaseUnavailable
from services.database.pool import PoolUse
from services.runtime.heartbeat import Counters, Heartbeat
from tests.support.api import api, settings_for
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk
from tests.support.sandbox import eventually

NOWHERE = "postgresql://bisnes@127.0.0.1:1/bisnes"


@pytest.fixture
def settings(database, tmp_path):
    return settings_for(database, tmp_path, HEARTBEAT_INTERVAL=100)


@pytest.fixture
def away(tmp_path):
    """Settings whose database does not exist."""
    return settings_for(NOWHERE, tmp_path, HEARTBEAT_INTERVAL=100)


@contextlib.contextmanager
def beating(settings, process="meta", instance="meta-worker-1", counters=None, database=None):
    """A process that beats; it has beaten once."""
    database = database or Database(settings.database_dsn)
    heart = Heartbeat(settings, database, process, instance, os.getpid(), counters or Counters())
    heart.beat()
    heart.start()
    try:
        yield heart
    finally:
        heart.stop()
        database.close()


def rows(settings, query):
    with contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def file_of(settings, instance="meta-worker-1"):
    return json.loads((settings.heartbeat_dir / f"{instance}.json").read_text())


# The heartbeat of a process


def test_a_heartbeat_contains_what_probes_read(settings):
    with beating(settings, counters=Counters(processed=5, errors=1, last_error="refused", active_bots=2)):
        beat = file_of(settings)
    assert (beat["process"], beat["instance"], beat["pid"]) == ("meta", "meta-worker-1", os.getpid())
    assert (beat["status"], beat["reason"]) == ("healthy", None)
    assert (beat["processed"], beat["errors"], beat["lastError"], beat["activeBots"]) == (5, 1, "refused", 2)
    assert 0 < beat["beat_boottime"] <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= time.time() - beat["started_at"] - beat["uptimeSeconds"] < 60
    assert beat["memoryMb"] > 1
    assert beat["cpuPercent"] >= 0


def test_heartbeats_continue(settings):
    with beating(settings):
        first = file_of(settings)["beat_boottime"]
        eventually(lambda: file_of(settings)["beat_boottime"] > first)


def test_a_heartbeat_file_is_never_incomplete(settings):
    heart = Heartbeat(settings, Database(settings.database_dsn), "meta", "meta-worker-1", os.getpid(), Counters())
    heart.beat()

    def beat_often():
        for _ in range(30):
            heart.beat()

    writer = threading.Thread(target=beat_often)
    writer.start()
    while writer.is_alive():
        assert file_of(settings)["instance"] == "meta-worker-1"
    heart.stop()


def test_a_process_is_the_sum_of_its_instances(settings):
    with (
        beating(settings, instance="meta-worker-1", counters=Counters(processed=5, errors=1)),
        beating(settings, instance="meta-worker-2", counters=Counters(processed=7, degraded="slow")),
    ):
        instances = "SELECT instance FROM process_instances WHERE process_name = 'meta' ORDER BY instance"
        assert rows(settings, instances) == [("meta-worker-1",), ("meta-worker-2",)]
        together = "SELECT messages_processed, error_count, status FROM process_health WHERE process_name = 'meta'"
        assert rows(settings, together) == [(12, 1, "degraded")]


def test_two_hosts_do_not_write_over_one_another(settings, monkeypatch):
    with contextlib.ExitStack() as both:
        for host, processed in (("north", 5), ("south", 7)):
            monkeypatch.setattr("socket.gethostname", lambda host=host: host)
            database = both.enter_context(contextlib.closing(Database(settings.database_dsn)))
            counters = Counters(processed=processed)
            Heartbeat(settings, database, "meta", "meta-worker-1", os.getpid(), counters).beat()
        kept = "SELECT host, instance, messages_processed FROM process_instances ORDER BY host"
        assert rows(settings, kept) == [("north", "meta-worker-1", 5), ("south", "meta-worker-1", 7)]
        together = "SELECT messages_processed, status FROM process_health WHERE process_name = 'meta'"
        assert rows(settings, together) == [(12, "healthy")]


def test_a_dead_instance_does_not_count(settings):
    with contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection, connection:
        connection.cursor().execute(
            "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat,"
            " messages_processed) VALUES ('meta', 'gone', 'meta-worker-9', 1, 'degraded', now(),"
            " now() - interval '1 hour', 100)"
        )
    with beating(settings, counters=Counters(processed=5)):
        together = "SELECT messages_processed, status FROM process_health WHERE process_name = 'meta'"
        assert rows(settings, together) == [(5, "healthy")]


def test_counters_survive_restarts_and_a_repeated_heartbeat_counts_once(settings):
    together = "SELECT messages_processed, error_count, last_error FROM process_health WHERE process_name = 'meta'"
    totals = "SELECT processed, sent, received, errors FROM process_totals WHERE process_name = 'meta'"
    counters = Counters(processed=5, sent=4, received=3)
    counters.fail("131000: something went wrong")
    with beating(settings, counters=counters) as heart:
        heart.beat()
        assert rows(settings, together) == [(5, 1, "131000: something went wrong")]
        counters.processed = 7  # counted after the last heartbeat, and reported at the end
    assert rows(settings, totals) == [(7, 4, 3, 1)]
    with beating(settings, counters=Counters(processed=2)), beating(settings, instance="meta-worker-2"):
        assert rows(settings, together) == [(9, 1, "131000: something went wrong")]


def test_metrics_are_stored_once_a_minute_for_all_instances(settings):
    counted = "SELECT count(*) FROM process_metrics WHERE process_name = 'meta' AND metric_name = 'messages_sent'"
    counters = Counters(sent=4, failures=Counter({"131026": 2}), pool=lambda: PoolUse(5, 2, 1, 0))
    with beating(settings, counters=counters) as heart, beating(settings, instance="meta-worker-2"):
        heart.beat()
        assert rows(settings, counted) == [(1,)]
        with contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection, connection:
            connection.cursor().execute("UPDATE process_totals SET measured_at = now() - interval '61 seconds'")
        eventually(lambda: rows(settings, counted) == [(2,)])
        names = rows(settings, "SELECT DISTINCT metric_name FROM process_metrics WHERE process_name = 'meta'")
        latest = "SELECT metric_value, metric_type, metadata FROM process_metrics WHERE metric_name = 'messages_sent'"
        assert rows(settings, f"{latest} ORDER BY id DESC LIMIT 1") == [(4, "counter", {"instances": 2})]
        more = "SELECT DISTINCT metric_name, metric_value FROM process_metrics WHERE metric_name IN"
        found = rows(settings, f"{more} ('messages_failed', 'pool_size', 'pool_used')")
        assert sorted(found) == [("messages_failed", 2), ("pool_size", 5), ("pool_used", 2)]
    assert {name for (name,) in names} == {
        *("messages_processed", "messages_sent", "messages_received", "errors", "active_connections"),
        *("memory_usage_mb", "cpu_usage_percent", "uptime_seconds", "messages_failed", "pool_size", "pool_used"),
    }


def test_the_metrics_of_whatsapp_web_have_its_sessions(settings):
    with contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection, connection:
        connection.cursor().execute("INSERT INTO wa_session (bot_id, state) VALUES (1, 'WORKING'), (2, 'FAILED')")
    with beating(settings, "wwebjs", "wwebjs"), beating(settings, "events", "events"):
        found = "SELECT process_name, metric_value FROM process_metrics WHERE metric_name = 'sessions'"
        assert rows(settings, found) == [("wwebjs", 1)]


def test_failures_survive_restarts_as_the_other_counters_do(settings):
    for _ in range(2):
        with beating(settings, counters=Counters(failures=Counter({"131026": 2, "none": 1}))) as heart:
            heart.beat()
            assert file_of(settings)["failures"] == {"131026": 2, "none": 1}
    assert rows(settings, "SELECT failed FROM process_totals WHERE process_name = 'meta'") == [(6,)]


def test_a_heartbeat_has_the_time_since_the_last_finished_message(settings):
    counters = Counters(received=9)
    with beating(settings, counters=counters) as heart:
        assert file_of(settings)["idleSeconds"] is None
        counters.sent = 1
        heart.beat()
        eventually(lambda: file_of(settings)["idleSeconds"] > 0)
        row = rows(settings, "SELECT figures ->> 'idleSeconds' FROM process_instances")
        assert float(row[0][0]) >= 0


def test_a_pool_reports_its_use_and_its_waits(settings):
    with contextlib.closing(Database(settings.database_dsn, 1)) as database:
        assert database.use() == PoolUse(1, 0, 0, 0)
        with database.connection():
            assert database.use() == PoolUse(1, 1, 0, 0)
            with pytest.raises(DatabaseUnavailable), database.connection():
                pass
        assert database.use() == PoolUse(1, 0, 1, 1)


def test_response_times_are_averaged_over_the_last_minute(settings):
    counters = Counters()
    with beating(settings, counters=counters) as heart, api(settings) as (_, client):
        assert client.get("/metrics/meta").get_json()["averageResponseTime"] is None
        counters.responses, counters.response_seconds = 4, 0.1
        heart.beat()
        assert client.get("/metrics/meta").get_json()["averageResponseTime"] == 25.0


def test_a_clean_end_removes_the_heartbeat(settings):
    with beating(settings, instance="meta-worker-1"):
        with beating(settings, instance="meta-worker-2"):
            pass
        assert not (settings.heartbeat_dir / "meta-worker-2.json").exists()
        assert rows(settings, "SELECT instance FROM process_instances") == [("meta-worker-1",)]
        assert rows(settings, "SELECT status FROM process_health WHERE process_name = 'meta'") == [("healthy",)]
    assert list(settings.heartbeat_dir.iterdir()) == []
    assert rows(settings, "SELECT status FROM process_health WHERE process_name = 'meta'") == [("stopped",)]


def test_without_a_database_the_file_is_written_and_says_so(settings):
    database = Database(NOWHERE)
    with beating(settings, database=database):
        beat = file_of(settings)
        assert (beat["status"], beat["reason"]) == ("degraded", "the database cannot be reached")
        database.dsn = settings.database_dsn
        eventually(lambda: file_of(settings)["status"] == "healthy")
    assert not (settings.heartbeat_dir / "meta-worker-1.json").exists()


def test_a_process_can_end_while_the_database_is_unavailable(away):
    with beating(away):
        pass
    assert list(away.heartbeat_dir.iterdir()) == []


# A question that hangs


def test_a_check_that_hangs_times_out_and_runs_only_once():
    answer, asked = threading.Event(), []

    def question():
        asked.append(1)
        answer.wait()
        return 42

    bounded = BoundedQuery(question)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            bounded.within(0.01)
    assert len(asked) == 1
    answer.set()
    assert bounded.within(10) == 42
    assert bounded.within(10) == 42


def test_the_error_of_a_check_is_reported():
    def question():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        BoundedQuery(question).within(10)


# The report of the API


@pytest.mark.parametrize("address", ["/health", "/api/health", "/health/live"])
def test_the_api_lives_without_a_database(away, address):
    with api(away) as (_, client):
        answer = client.get(address)
    assert answer.status_code == 200
    assert Alive.model_validate(answer.json, extra="forbid").process == "api"


def test_the_api_is_ready_with_its_database(settings):
    with api(settings) as (_, client):
        assert client.get("/health/ready").status_code == 200


def test_the_api_is_not_ready_without_a_database_and_shows_no_secret(away):
    with api(away) as (_, client):
        answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert Problem.model_validate(answer.json).code == "database_unavailable"
    assert "127.0.0.1" not in answer.text
    assert "bisnes@" not in answer.text


def test_the_api_is_not_ready_on_a_database_that_was_not_migrated(settings):
    with api(settings) as (_, client):
        with contextlib.closing(psycopg2.connect(settings.database_dsn)) as connection, connection:
            connection.cursor().execute("ALTER TABLE outbox RENAME TO elsewhere")
        answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert "bisnesctl migrate" in answer.get_json()["error"]


def of(answer, name):
    """The process in an answer of /health/all."""
    AllHealth.model_validate(answer.json, extra="forbid")
    return next((each for each in answer.get_json()["processes"] if each["processName"] == name), None)


def test_all_processes_are_reported_from_the_database(settings):
    with api(settings) as (_, client), beating(settings, "meta", "meta-worker-1"), beating(settings, "api", "api-0"):
        answer = client.get("/health/all")
    assert answer.get_json()["source"] == "database"
    assert of(answer, "meta")["status"] == of(answer, "api")["status"] == "healthy"
    assert of(answer, "meta")["memory"] > 1


def test_a_stopped_process_is_reported_as_stopped(settings):
    with beating(settings, "meta", "meta-worker-1"):
        pass
    with api(settings) as (_, client):
        assert of(client.get("/health/all"), "meta")["status"] == "stopped"


def test_without_the_database_local_heartbeat_files_are_used(away):
    with api(away) as (_, client), beating(away, "meta", "meta-worker-1"), beating(away, "meta", "meta-worker-2"):
        answer = client.get("/health/all")
    assert answer.get_json()["source"] == "local"
    assert of(answer, "meta")["status"] == "degraded"  # they cannot reach it either
    assert of(answer, "meta")["uptime"] >= 0


@pytest.mark.parametrize(("age", "status"), [(0, "healthy"), (40, "degraded"), (90, "down"), (-500, "down")])
def test_an_old_heartbeat_file_is_unhealthy(away, age, status):
    beat = {"process": "api", "pid": 7, "status": "healthy", "uptimeSeconds": 9.5, "memoryMb": 80.0, "cpuPercent": 1.0,
            "activeBots": 0, "processed": 3, "errors": 0}  # fmt: skip
    beat["beat_boottime"] = time.clock_gettime(time.CLOCK_BOOTTIME) - age
    away.heartbeat_dir.mkdir(parents=True)
    (away.heartbeat_dir / "api-0.json").write_text(json.dumps(beat))
    (away.heartbeat_dir / "api-1.json").write_text('{"process": "ap')
    with api(away) as (_, client):
        assert of(client.get("/health/all"), "api")["status"] == status


def test_no_heartbeat_file_breaks_the_report_of_the_others(away):
    away.heartbeat_dir.mkdir(parents=True)
    alerts.beat(away)
    for name, content in {"a": "[]", "b": "{}", "c": '{"process": "api", "beat_boottime": null}', "d": "\xff"}.items():
        (away.heartbeat_dir / f"{name}.json").write_text(content)
    with api(away) as (_, client), beating(away, "meta", "meta-worker-1"):
        answer = client.get("/health/all")
        assert of(answer, "alerts")["status"] == "healthy"
        assert of(answer, "meta")["memory"] > 1
        assert client.get("/metrics/alerts").status_code == 200


FIGURES = Counters(processed=5, sent=4, received=3, errors=1, connections=2)


def test_one_process_in_figures(settings):
    with api(settings) as (_, client), beating(settings, counters=FIGURES):
        answer = client.get("/metrics/meta")
        unknown = client.get("/metrics/nothing")
    found = Metrics.model_validate(answer.json, extra="forbid")
    assert (found.messagesProcessed, found.errors, found.source) == (5, 1, "database")
    assert (found.messagesSent, found.messagesReceived, found.activeConnections) == (4, 3, 2)
    assert unknown.status_code == 404
    assert "meta" in unknown.get_json()["error"]


def test_programs_of_the_mode_that_was_left_are_forgotten(settings):
    for process in ("legacy", "events"):
        with beating(settings, process, f"{process}-1"):
            pass
    with beating(settings, "sandbox", "sandbox"):
        process_health.forget(settings, {"legacy", "sandbox", "api"})
    known = rows(settings, "SELECT process_name FROM process_health ORDER BY 1")
    assert known == [("api",), ("events",), ("meta",), ("sandbox",), ("wwebjs",)]


def test_an_unavailable_database_forgets_nothing(away):
    process_health.forget(away, {"legacy"})


# Everything else, while the database is unavailable


def test_an_unready_api_answers_with_retry_after(away):
    with api(away) as (_, client):
        for answer in (
            client.get("/api/v2/messages/0128/60123456789", headers={"X-Api-Key": "bk_company"}),
            client.post("/api/v2/messages/text/0128/60123456789", json={}, headers={"X-Api-Key": "bk_company"}),
        ):
            assert (answer.status_code, answer.get_json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) > 0


# A disk that takes nothing


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__, "heartbeat_on_a_disk")


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_heartbeat_on_a_disk_that_cannot_be_written_continues(tmp_path, how):
    with small_disk(tmp_path / "disk") as small:
        settings = settings_for(NOWHERE, tmp_path, BISNES_HOME=small.folder, HEARTBEAT_INTERVAL=100)
        with beating(settings) as heart:
            before = file_of(settings)["beat_boottime"]
            small.fill() if how == "full" else small.read_only()
            if how == "full":  # it is written in its place
                eventually(lambda: whole(settings) and file_of(settings)["beat_boottime"] > before)
            for _ in range(3):
                heart.beat()
            small.free() if how == "full" else small.writable()
            eventually(lambda: whole(settings) and file_of(settings)["beat_boottime"] > before + 1)
            small.read_only()
        small.writable()


def whole(settings):
    """Whether the file can be read: in its place, it may be met half written."""
    try:
        return bool(file_of(settings))
    except ValueError:
        return False
