"""Deployments whose signals are measured, without processes: what is in the database decides."""

import contextlib
from pathlib import Path

import psycopg2

from bisnesctl.processes.deployment import Deployment, open_deployment, record_start
from bisnesctl.processes.topology import Mode
from bisnesctl.signals.measurement import Measurement
from tests.support.api import settings_for

#: The URL of a database that does not exist.
NOWHERE = "postgresql://bisnes@127.0.0.1:1/bisnes"

#: Statements: a number of Meta; a message of each number that has waited for 1000 seconds.
BOT = """
INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id) VALUES ('0128', 0,
    'meta_direct', '1')"""
WAITING = """
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, accepted_at)
SELECT id, '4912', uuid_generate_v4(), '0128', 0, 'text', '{}', now() - interval '1000 seconds' FROM phone_configs;
INSERT INTO lane (bot_id, chat_id, pending) SELECT id, '4912', 1 FROM phone_configs"""


def deployment_of(dsn: str, folder: Path) -> Deployment:
    """A deployment that was started, but whose supervisord is gone."""
    settings = settings_for(dsn, folder, HEARTBEAT_INTERVAL=100)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    settings.heartbeat_dir.mkdir(exist_ok=True)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    return open_deployment(settings)


def execute(deployment: Deployment, *statements: str) -> None:
    """Run these statements in its database."""
    with contextlib.closing(psycopg2.connect(deployment.settings.database_dsn)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def values(found: Measurement, name: str) -> dict[str, float]:
    """The values of a signal by its labels."""
    return {",".join(each.labels.values()): each.value for each in found.readings.of(name)}
