"""Errors of Redis in words that name the cause, without the password."""

import pytest
import redis

from bisnesctl.errors import RedisUnavailable
from bisnesctl.lifecycle import start
from tests.support.processes.servers import Redis, settings_in
from tests.support.waiting import HANG_SECONDS


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A Redis with the password `right`."""
    server = Redis(settings_in(tmp_path_factory.mktemp("redis"), DATABASE_URL="postgresql://unused"))
    server.start()
    with redis.Redis.from_url(server.url, socket_timeout=HANG_SECONDS) as client:
        client.config_set("requirepass", "right")
    yield server
    with redis.Redis.from_url(server.url, password="right", socket_timeout=HANG_SECONDS) as client:
        client.config_set("requirepass", "")
    server.remove()


def refusal(folder, **variables):
    """The error of a start with these settings."""
    with pytest.raises(RedisUnavailable) as caught:
        start.check_redis(settings_in(folder, **variables))
    return str(caught.value)


def test_a_missing_password_is_named(guarded, tmp_path):
    text = refusal(tmp_path, REDIS_URL=guarded.url)
    assert "it requires a password, and none is set" in text
    assert f"REDIS_URL in {tmp_path / '.env'}" in text


def test_a_wrong_password_is_named_and_not_repeated(guarded, tmp_path):
    text = refusal(tmp_path, REDIS_URL=guarded.url.replace("unix://", "unix://:wr0ng@"))
    assert "it refuses the user or the password" in text
    assert "wr0ng" not in text


def test_an_unreachable_server_is_named(tmp_path):
    text = refusal(tmp_path, REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert "Redis at 127.0.0.1:1: it cannot be reached: connection refused. See REDIS_HOST" in text


@pytest.mark.parametrize("password", ["a/b", "a#b", "a@b", "a%b"])
def test_a_password_that_must_be_encoded_is_explained(tmp_path, password):
    text = refusal(tmp_path, REDIS_URL=f"redis://:{password}@127.0.0.1:1")
    assert "%40" in text
    assert password not in text


def test_an_url_of_another_kind_is_named(tmp_path):
    assert "must begin with redis://" in refusal(tmp_path, REDIS_URL="http://127.0.0.1:1")
