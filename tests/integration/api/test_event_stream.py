"""The stream of events: nothing lost and nothing twice across reconnects, and each company its own."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys

import orjson
import pytest
import requests

from services.api import event_stream as streams
from services.api.event_stream import Streams
from services.database.connection import Database
from services.events.names import CATALOGUE
from tests.support.api import (
    COMPANY,
    KEY,
    OPERATOR_KEY,
    OTHER,
    OTHER_KEY,
    REVOKED_KEY,
    add_company,
    api,
    serving,
    settings_for,
)
from tests.support.outbox import execute
from tests.support.remote.customer import raise_events
from tests.support.sandbox import eventually, free_port
from tests.support.waiting import HANG_SECONDS

#: Seconds in which a stream must say something, so that a test ends.
PATIENCE = HANG_SECONDS


@pytest.fixture
def settings(database, tmp_path):
    add_company(database)
    return settings_for(database, tmp_path)


@pytest.fixture
def url(settings):
    with serving(settings) as url:
        yield f"{url}/api/events"


@pytest.fixture
def connection(settings):
    connection = Database(settings.database_dsn).connect(by_key=False)
    yield connection
    connection.close()


class Listener:
    """A client of a stream."""

    def __init__(self, url, last_id=None, key=KEY, **asked):
        headers = {"X-Api-Key": key} | ({"Last-Event-ID": last_id} if last_id else {})
        self.answer = requests.get(url, params=asked, headers=headers, stream=True, timeout=PATIENCE)
        self._chunks, self._rest = self.answer.iter_content(None), b""
        self.last_id = last_id

    def blocks(self):
        """Each block of the stream as a dictionary of its fields, comments under the empty name."""
        for chunk in itertools.chain([b""], self._chunks):
            self._rest += chunk
            while b"\n\n" in self._rest:
                text, _, self._rest = self._rest.partition(b"\n\n")
                fields = (line.partition(":") for line in text.decode().splitlines())
                block = {name: value.strip() for name, _, value in fields}
                self.last_id = block.get("id", self.last_id)
                yield block

    def events(self, count):
        """The next events, as many as these."""
        found = []
        for block in self.blocks():
            if "data" in block:
                event = orjson.loads(block["data"])
                assert block["event"] == event.get("event", "reset")
                found.append(event)
            if len(found) == count:
                break
        return found

    def numbers(self, count):
        return [event["payload"]["number"] for event in self.events(count)]

    def begun(self):
        """Itself, once the server has sent its first position."""
        next(self.blocks())
        return self

    def close(self):
        self.answer.close()


@pytest.fixture
def listen(url):
    """Open streams that end with the test."""
    with contextlib.ExitStack() as stack:

        def listen(*arguments, **options):
            listener = Listener(url, *arguments, **options)
            stack.callback(listener.close)
            return listener

        yield listen


def test_events_come_as_they_are_raised_in_the_form_of_webhooks(listen, connection):
    listener = listen().begun()
    assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
    raise_events(connection, 1)
    [event] = listener.events(1)
    assert event.keys() == {"id", "timestamp", "event", "session", "company", "payload"}
    assert (event["event"], event["session"], event["company"]) == ("message", f"{COMPANY}-0", COMPANY)
    assert listener.last_id == event["id"]
    raise_events(connection, 2, 3)
    assert listener.numbers(2) == [2, 3]


def test_a_client_that_comes_back_misses_nothing_and_sees_nothing_twice(listen, connection):
    seen, last_id = [], listen().begun().last_id
    for round_ in range(5):
        raise_events(connection, *range(40 * round_, 40 * round_ + 20))
        listener = listen(last_id)
        raise_events(connection, *range(40 * round_ + 20, 40 * round_ + 40))
        seen += listener.numbers(33 if round_ < 4 else 200 - len(seen))
        last_id = listener.last_id
        listener.close()
    assert seen == list(range(200))


@pytest.mark.parametrize("size", [16_384, 65_000, 65_536, 131_072, 1_400_000])
def test_an_event_of_any_size_comes_whole_and_the_next_one_follows(listen, connection, size):
    listener = listen().begun()
    raise_events(connection, 1, body="é" * size)
    raise_events(connection, 2)
    large, small = listener.events(2)
    assert large["payload"]["body"] == "é" * size
    assert small["payload"]["number"] == 2


def test_the_address_may_name_the_last_event_as_well(listen, connection):
    listener = listen().begun()
    raise_events(connection, 1, 2, 3)
    [first, *_] = listener.events(3)
    assert listen(lastEventId=first["id"]).numbers(2) == [2, 3]


def test_a_stream_carries_only_the_events_that_it_asks_for(listen, connection):
    acks = listen(events="message.ack, bot.status").begun()
    second = listen(session=f"{COMPANY}-1").begun()
    raise_events(connection, 1)
    raise_events(connection, 2, name="message.ack")
    raise_events(connection, 3, session=f"{COMPANY}-1")
    raise_events(connection, 4, name="bot.status", session=f"{COMPANY}-1")
    assert acks.numbers(2) == [2, 4]
    assert second.numbers(2) == [3, 4]


def test_each_company_receives_only_its_own_events(listen, connection):
    ours, theirs = listen().begun(), listen(key=OTHER_KEY).begun()
    operator = listen(key=OPERATOR_KEY, company=OTHER).begun()
    raise_events(connection, 1)
    raise_events(connection, 2, company=OTHER)
    raise_events(connection, 3)
    assert ours.numbers(2) == [1, 3]
    assert theirs.numbers(1) == operator.numbers(1) == [2]
    [foreign] = execute(connection, "SELECT event_id FROM event WHERE company_id = %s", (OTHER,))
    assert "number" not in listen(foreign[0]).events(1)[0]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"key": ""}, 401, "no_key"),
        ({"key": REVOKED_KEY}, 401, "invalid_key"),
        ({"company": OTHER}, 403, "foreign_company"),
        ({"key": OPERATOR_KEY}, 400, "invalid_request"),
        ({"events": "message,nothing"}, 400, "invalid_request"),
        ({"session": "x" * 2000}, 400, "invalid_request"),
        ({"lastEventId": "a\0b"}, 400, "invalid_request"),
    ],
)
def test_an_invalid_stream_request_is_refused(listen, options, status, code):
    answer = listen(**options).answer
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["success"] is False


def test_a_last_event_id_that_is_no_longer_kept_causes_a_reset(listen, connection, settings):
    listener = listen().begun()
    raise_events(connection, 1, 2, 3)
    [first, *_] = listener.events(3)
    days = settings.events_keep_days
    execute(connection, "UPDATE event SET created_at = now() - %s * interval '1 day' WHERE seq <= 2", (days + 1,))
    for unknown in (first["id"], "evt_none", "seq_99", "seq_x", "seq_0"):
        again = listen(unknown)
        assert "reason" in again.events(1)[0]
        assert again.numbers(1) == [3]
    assert listen("seq_2").numbers(1) == [3]


def test_a_company_may_open_a_limited_number_of_streams(listen, url):
    opened = [listen().begun() for _ in range(streams.MAX_STREAMS)]
    refused = listen().answer
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert listen(key=OTHER_KEY).answer.status_code == 200
    opened[0].close()

    def reopened():
        answer = listen().answer
        return answer.status_code == 200

    eventually(reopened)


def test_idle_streams_are_kept_alive_and_given_their_position(listen, connection, monkeypatch):
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.3)
    listener = listen(events="message.ack").begun()
    raise_events(connection, 1)
    blocks = listener.blocks()
    assert "" in next(blocks)
    while listener.last_id != "seq_1":
        next(blocks)
    assert listen("seq_1", events="message.ack").answer.status_code == 200


@pytest.mark.parametrize("slow", [("KEEP_ALIVE_SECONDS", "KEY_CHECK_SECONDS"), ("KEEP_ALIVE_SECONDS",)])
def test_the_stream_of_a_revoked_key_ends(listen, connection, monkeypatch, slow):
    """At once, as the change is announced; and soon without that."""
    for name in slow:
        monkeypatch.setattr(streams, name, 10 * PATIENCE)
    if "KEY_CHECK_SECONDS" not in slow:
        monkeypatch.setattr(Streams, "_check_keys", lambda _: None)
    listener = listen().begun()
    execute(
        connection, "UPDATE api_keys SET revoked_at = now() WHERE company_id = %s AND revoked_at IS NULL", (COMPANY,)
    )
    assert all("data" not in block for block in listener.blocks())  # and then it is over


def test_a_client_that_reads_nothing_delays_no_other(listen, connection, url):
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {KEY}\r\n\r\n".encode())
        assert b"200" in deaf.recv(100)
        listener = listen().begun()
        for number in range(30):
            big = {"number": number, "text": "x" * 100_000}
            event = {"company": COMPANY, "session": "s", "event": "message", "payload": big}
            execute(connection, "SELECT raise_events(%s)", (orjson.dumps([event]).decode(),))
        assert listener.numbers(30) == list(range(30))


def test_the_stream_goes_on_when_the_database_comes_back(listen, connection, postgres):
    listener = listen().begun()
    execute(connection, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()")  # fmt: skip
    raise_events(connection, 1, 2)
    assert listener.numbers(2) == [1, 2]


def test_without_an_event_loop_the_answer_ends_after_the_stored_events(settings, connection):
    with api(settings) as (_, client):
        headers = {"X-Api-Key": KEY}
        first = client.get("/api/events", headers=headers)
        assert first.mimetype == "text/event-stream"
        assert b"id: seq_0" in first.data
        raise_events(connection, 1, 2)
        answer = client.get("/api/events", headers=headers | {"Last-Event-ID": "seq_0"})
        assert answer.data.count(b"data: ") == 2


def test_the_document_names_the_stream_and_every_event(settings):
    with api(settings) as (_, client):
        document = client.get("/openapi/openapi.json").get_json()
    said = str(document["paths"]["/api/events"]["get"])
    assert "text/event-stream" in said
    assert all(name in said for name in CATALOGUE)


@pytest.fixture
def gunicorn(settings):
    """The API as `bisnesctl` starts it; gives the process and its address."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:services.gunicorn_conf", "--no-control-socket"]
    process = subprocess.Popen(
        [*command, "-b", f"127.0.0.1:{port}", "services.api.asgi:app"],
        env=os.environ | {"BISNES_ENV": str(settings.env_file), "BISNES_PROCESS": "api", "BISNES_INSTANCE": "api-0"},
    )
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def _answers(url):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/health/live", timeout=HANG_SECONDS).ok


def test_streams_end_with_their_server_and_go_on_at_the_next(gunicorn, connection):
    process, url = gunicorn
    eventually(lambda: _answers(url))
    listener = Listener(f"{url}/api/events").begun()
    raise_events(connection, 1)
    assert listener.numbers(1) == [1]
    process.send_signal(signal.SIGTERM)
    assert all("data" not in block for block in listener.blocks())  # complete: it was not cut off
    assert process.wait(PATIENCE) == 0
    assert listener.last_id.startswith("evt_")
