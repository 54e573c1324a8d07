"""The process that calls webhooks: killed at any moment it loses nothing, and asked to end it finishes its calls."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from uuid_utils import uuid7

from bisnesctl.encryption import encrypt
from services.database.connection import Database
from services.events import webhooks
from tests.support.api import settings_for
from tests.support.outbox import execute
from tests.support.remote.customer import SECRET, Customer, raise_events
from tests.support.sandbox import eventually, free_port
from tests.support.waiting import HANG_SECONDS

CHATS = tuple(f"6012345678{number}" for number in range(8))
PENDING = "SELECT count(*) FROM webhook_delivery WHERE status = 'pending'"


@pytest.fixture
def settings(database, tmp_path):
    return settings_for(database, tmp_path, ALLOWED_NETWORKS="127.0.0.0/8", HEARTBEAT_INTERVAL="200")


@pytest.fixture
def connection(settings):
    connection = Database(settings.database_dsn).connect(by_key=False)
    yield connection
    connection.close()


@pytest.fixture
def start(settings):
    """Start the process; one of the same name at a time."""
    started = []

    def start():
        environment = os.environ | {"BISNES_ENV": str(settings.env_file), "BISNES_INSTANCE": "events"}
        started.append(subprocess.Popen([sys.executable, "-m", "services.events"], env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def customer(connection, settings):
    customer = Customer()
    webhook_id = str(uuid7())
    secret = encrypt(settings.encryption_key.get_secret_value(), SECRET, webhooks.secret_row(webhook_id))
    webhooks.register(connection, webhook_id, "0128", customer.url, ["*"], secret)
    yield customer
    customer.close()


def beat(settings):
    """The heartbeat's file, if there is one."""
    path = settings.heartbeat_dir / "events.json"
    return json.loads(path.read_text()) if path.exists() else None


def test_a_sender_that_is_killed_repeatedly_delivers_all_events_in_order(start, customer, connection):
    process = start()
    for number in range(30):
        told = len(customer.calls)
        raise_events(connection, number, chats=CHATS)
        if number % 6 == 3:
            eventually(lambda: len(customer.calls) > told)  # noqa: B023 - it is called at once
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start()
    eventually(lambda: execute(connection, PENDING) == [(0,)])
    assert set(customer.told()) == set(CHATS)
    for numbers in customer.told().values():
        assert list(dict.fromkeys(numbers)) == list(range(30))
    assert {len(ids) for ids in customer.ids().values()} == {1}


def test_the_process_is_healthy_counts_deliveries_and_finishes_calls_in_flight(start, customer, connection, settings):
    process = start()
    eventually(lambda: (beat(settings) or {}).get("status") == "healthy")
    raise_events(connection, 1)
    eventually(lambda: beat(settings)["processed"] == 1)
    release = threading.Event()
    customer.answer = lambda call: release.wait(2 * HANG_SECONDS) and 200
    raise_events(connection, 2)
    eventually(lambda: len(customer.calls) == 2)
    process.send_signal(signal.SIGTERM)
    release.set()
    assert process.wait(HANG_SECONDS) == 0
    assert execute(connection, PENDING) == [(0,)]
    assert customer.told() == {"60123456789": [1, 2]}
    assert beat(settings) is None


def test_without_its_database_the_process_is_degraded_and_stops_on_sigterm(start, settings):
    settings.env_file.write_text(f"DATABASE_URL=postgresql://nobody@127.0.0.1:{free_port()}/none\n")
    process = start()
    eventually(lambda: (beat(settings) or {}).get("status") == "degraded")
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_SECONDS) == 0
