"""The evaluator's measurements become rows once a minute, and the rows become figures."""

import contextlib
import socket

import pytest

from bisnesctl.database import postgres
from bisnesctl.database.kept_connection import KeptConnection
from bisnesctl.series import metrics, reading
from bisnesctl.series.recorder import Recorder
from bisnesctl.signals import processes
from bisnesctl.signals.measurement import measure
from bisnesctl.signals.signal import Reading
from tests.support.measurement import BOT, NOWHERE, WAITING, deployment_of, execute

HOST = socket.gethostname()


@pytest.fixture
def deployment(database, tmp_path):
    made = deployment_of(database, tmp_path)
    execute(made, BOT)
    return made


@pytest.fixture
def record():
    """Records a measurement, as if a minute had passed since the last."""
    with contextlib.closing(KeptConnection()) as kept:
        made = Recorder(kept)

        def store(found, is_due=True):
            if is_due:
                made._due = 0.0
            made.record(found)

        yield store


def rows(deployment, metric):
    with postgres.command_connection(deployment.settings) as connection:
        return postgres.query(
            connection,
            "SELECT process_name, metric_value::float, metadata FROM process_metrics WHERE metric_name = %s "
            "ORDER BY id",
            (metric,),
        )


def failures(count, code="131026", host=HOST, name="meta-worker-1"):
    return Reading(processes.FAILURES, count, {"process": "meta", "name": name, "host": host, "code": code})


def test_queues_are_stored_once_a_minute_even_by_two_machines(deployment, record):
    execute(deployment, WAITING)
    record(measure(deployment))
    record(measure(deployment))
    record(measure(deployment), is_due=False)
    assert [each[:2] for each in rows(deployment, metrics.QUEUE_WAITING)] == [("meta", 1.0), ("wwebjs", 0.0)]
    assert rows(deployment, metrics.QUEUE_OLDEST)[0][1] >= 1000


def test_failures_are_the_growth_of_this_machines_counters(deployment, record):
    def count(*readings):
        found = measure(deployment)
        found.values += readings
        record(found)

    count(failures(5))  # what was before it began is not known to be new
    count(failures(7), failures(1, "470"), failures(90, host="elsewhere"))
    count(failures(7), failures(3, "470"))
    count(failures(2), failures(3, "470"))  # the worker was restarted
    found = [(value, stored["code"]) for _, value, stored in rows(deployment, metrics.FAILURES)]
    assert found == [(2, "131026"), (1, "470"), (2, "470"), (2, "131026")]
    with postgres.command_connection(deployment.settings) as connection:
        read = reading.failures(connection, reading.window("1h"), ["meta"])
    assert {code: sum(each or 0 for each in values) * 2 for code, values in read.items()} == {"131026": 4, "470": 3}


def test_latencies_are_those_of_the_minute_before_the_last(deployment, record):
    found = measure(deployment)
    for number, (age, seconds) in enumerate([(90, 1), (90, 2), (90, 300), (30, 50), (150, 50)]):
        execute(
            deployment,
            f"""INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, status,
                accepted_at, timeline)
            SELECT id, '{number}', '{int(1000 * (found.at - age)):012x}700080000000000000{number:02}', '0128', 0,
                'text', '{{}}', 'sent', now(),
                jsonb_build_array(jsonb_build_object('status', 'sent', 'at', now() + interval '{seconds} seconds'))
            FROM phone_configs""",
        )
    record(found)
    ((process, middle, stored),) = rows(deployment, metrics.LATENCY_P50)
    assert (process, stored) == ("meta", {"messages": 3})
    assert middle == pytest.approx(2000, abs=1)
    ((_, high, _),) = rows(deployment, metrics.LATENCY_P99)
    assert 2000 < high <= 300_000


def test_instances_have_their_memory_and_processor_time(deployment, record):
    labels = {"process": "wwebjs", "name": "wwebjs-session-0128-1", "host": HOST}
    found = measure(deployment)
    found.values += [Reading(processes.MEMORY_USED, 300 * 2.0**20, labels), Reading(processes.CPU_USED, 0.25, labels)]
    record(found)
    name = "wwebjs-session-0128-1"
    wanted = [("wwebjs", metrics.memory_of(name)), ("wwebjs", metrics.cpu_of(name))]
    with postgres.command_connection(deployment.settings) as connection:
        here = reading.gauges(connection, reading.window("1h"), wanted, HOST)
        assert reading.gauges(connection, reading.window("1h"), wanted, "elsewhere") == {}
    assert [max(each or 0 for each in values) for values in here.values()] == [300.0, 25.0]


def test_without_postgresql_nothing_is_stored_and_nothing_fails(tmp_path, record):
    record(measure(deployment_of(NOWHERE, tmp_path)))


def test_a_server_that_refuses_the_rows_ends_nothing(deployment, record):
    found = measure(deployment)
    execute(deployment, "ALTER TABLE process_metrics RENAME TO hidden")
    record(found)
    execute(deployment, "ALTER TABLE hidden RENAME TO process_metrics")
    record(found)
    assert len(rows(deployment, metrics.QUEUE_WAITING)) == 2
