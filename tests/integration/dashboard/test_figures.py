"""Figures over time on the overview and on the page of a process."""

import re
import socket
from contextlib import closing

import psycopg2
import pytest

from bisnesctl.people.roles import Role
from bisnesctl.series import metrics, reading
from services.dashboard.app import Dashboard
from services.database.connection import Database
from tests.support.measurement import NOWHERE

#: A week of rows of each minute, of 8 programs and 60 instances.
FILL = f"""
INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, timestamp, metadata)
SELECT p.process, m.metric, CASE m.type WHEN 'counter' THEN minute * p.number ELSE p.number END, m.type,
    now() - (%(minutes)s - minute) * interval '1 minute', jsonb_build_object('host', '{socket.gethostname()}')
FROM generate_series(1, %(minutes)s) AS minute,
    unnest(ARRAY['api', 'meta', 'wwebjs', 'events', 'dashboard', 'legacy']) WITH ORDINALITY AS p (process, number),
    (VALUES ('messages_sent', 'counter'), ('messages_failed', 'counter'), ('messages_received', 'counter'),
        ('errors', 'counter'), ('average_response_time', 'gauge'), ('{metrics.QUEUE_WAITING}', 'gauge'),
        ('{metrics.QUEUE_OLDEST}', 'gauge'), ('{metrics.LATENCY_P50}', 'gauge'), ('{metrics.LATENCY_P99}', 'gauge'),
        ('memory_mb[api-0]', 'gauge'), ('cpu_percent[api-0]', 'gauge')) AS m (metric, type)
"""
FAILURES = f"""
INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, timestamp, metadata)
SELECT 'meta', '{metrics.FAILURES}', 6, 'count', now() - minute * interval '1 minute',
    jsonb_build_object('code', 'code-' || minute %% 9)
FROM generate_series(0, %(minutes)s) AS minute"""


def fill(dsn, minutes):
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FILL, {"minutes": minutes})
        cursor.execute(FAILURES, {"minutes": minutes})


def figure(text, name):
    return re.search(rf'<figure class="card plot" id="plot-{name}">.*?</figure>', text, re.DOTALL).group(0)


def test_the_overview_has_plots_with_thresholds_and_tables(settings, signed_in):
    fill(settings.database_dsn, 70)
    text = signed_in(Role.VIEWER).text("/ui/")
    messages = figure(text, "messages")
    for label in ("accepted", "meta sent", "wwebjs failed"):
        assert label in messages
    assert re.search(r'<td class="num">2</td>', messages), "meta sent two a minute"
    assert "warning above 2m 0s" in figure(text, "oldest")
    assert "warning above 2 s" in figure(text, "answers")
    assert "code-3" in figure(text, "failures")
    assert "…" in figure(text, "failures"), "the other codes are one series"
    assert "style=" not in text


def test_a_span_can_be_chosen(settings, signed_in):
    fill(settings.database_dsn, 3000)
    visitor = signed_in(Role.VIEWER)
    for span in reading.SPANS:
        text = visitor.text(f"/ui/?span={span}")
        assert f'span={span}" aria-current="true">{span}' in text
        assert "meta sent" in figure(text, "messages")
        assert len(visitor.get(f"/ui/?span={span}").data) < 100_000
    assert 'span=1h" aria-current="true"' in visitor.text("/ui/?span=<script>")


def test_without_figures_the_page_says_where_they_come_from(signed_in):
    assert "The program alerts stores figures once a minute." in signed_in(Role.VIEWER).text("/ui/")


def test_a_process_has_its_memory_against_its_limit(settings, signed_in):
    fill(settings.database_dsn, 70)
    text = signed_in(Role.VIEWER).text("/ui/processes/api-0")
    assert "1 MB" in figure(text, "memory")
    assert "warning above" in figure(text, "memory")
    assert "limit" in figure(text, "memory")
    assert "1 %" in figure(text, "cpu")


def test_without_postgresql_the_pages_say_what_they_cannot_show(settings, people, signed_in, monkeypatch):
    visitor = signed_in(Role.VIEWER)
    visitor.client.application = Dashboard(settings, Database(NOWHERE, 2), people)
    for page in ("/ui/", "/ui/processes/api-0"):
        answer = visitor.get(page)
        assert answer.status_code == 200
        assert "PostgreSQL does not answer, and it has the figures" in answer.text


@pytest.mark.parametrize("statement", ["_COUNTERS", "_GAUGES", "_FAILURES"])
def test_a_week_is_read_by_the_index_alone(settings, statement):
    fill(settings.database_dsn, 1500)
    within = reading.window("7d")
    wanted = [("meta", "messages_sent"), ("api", "messages_sent"), ("meta", metrics.QUEUE_WAITING)]
    values = reading._parameters(within, wanted) | {"host": None}
    if statement == "_FAILURES":
        values["processes"] = ["meta", "wwebjs"]
    with closing(psycopg2.connect(settings.database_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("ANALYZE process_metrics")
        cursor.execute("EXPLAIN " + getattr(reading, statement), values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "idx_process_metrics_time" in plan, plan
    assert "Seq Scan" not in plan, plan
