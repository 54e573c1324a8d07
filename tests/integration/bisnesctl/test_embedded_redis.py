"""The probe of the embedded Redis, which works without the Redis client, says the same as that with the client."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from bisnesctl.health import probes
from bisnesctl.health.probes import Status
from tests.support.processes.servers import Redis, settings_in
from tests.support.waiting import HANG_SECONDS

#: Seconds that a server gets that does not answer.
SHORT_SECONDS = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Redis(settings_in(tmp_path_factory.mktemp("redis"), DATABASE_URL="postgresql://unused"))
    found.start()
    yield found
    found.remove()


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url, socket_timeout=HANG_SECONDS) as found:
        yield found


def probe(server, timeout=HANG_SECONDS):
    """The answer of both probes."""
    found = probes.embedded_redis(Path(unquote(urlsplit(server.url).path)), timeout)
    assert found == probes.redis(server.url, timeout)
    return found


def test_a_server_that_can_be_written_to_is_healthy(server):
    assert probe(server).healthy


def test_a_replica_is_named(server, client):
    client.replicaof("127.0.0.1", "1")
    try:
        assert probe(server).reason == "it is a read-only replica"
    finally:
        client.replicaof("NO", "ONE")


def test_a_password_is_named(server, client):
    client.config_set("requirepass", "right")
    try:
        assert probe(server).reason == "it requires a password, and none is set"
    finally:
        client.config_set("requirepass", "")


def test_a_server_that_hangs_is_named(server):
    with server.frozen():
        assert probe(server, SHORT_SECONDS).reason == "it did not answer within 0.5 s"


def test_a_server_that_is_gone_is_named(tmp_path):
    found = probes.embedded_redis(tmp_path / "redis.sock")
    assert found == probes.redis(f"unix://{tmp_path}/redis.sock")
    assert (found.status, found.reason) == (Status.UNHEALTHY, "it cannot be reached: no such file or directory")
