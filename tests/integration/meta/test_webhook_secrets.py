"""The rotation of the secret of a 360dialog number's webhooks, and of the key that it is derived from."""

import contextlib
from functools import partial

import pytest

from bisnesctl.bots import secret_rotation, webhook_secrets
from bisnesctl.bots.linking import LinkFailed
from bisnesctl.bots.provider_queries import SECRET_HEADER, dialog360_webhook
from bisnesctl.errors import ConfigError, UsageError
from services.database.connection import Database
from tests.integration.api.test_two_companies import world
from tests.support.api import OTHER, refusal
from tests.support.outbox import execute
from tests.support.two_companies import Webhooks
from tests.support.waiting import wait_until

__all__ = ["world"]  # the fixture

BODY = {"object": "whatsapp_business_account", "entry": []}


@pytest.fixture
def settings(world):
    return world.webhooks.settings


@pytest.fixture
def rotate(settings):
    pool = Database(settings.database_dsn)
    yield partial(secret_rotation.rotate, pool.connection, settings)
    pool.close()


def told(world):
    """The secret that 360dialog was given last."""
    asked = [each for each in world.provider.asked if each.path == "/d360/v1/configs/webhook" and each.method == "POST"]
    return asked[-1].json["headers"][SECRET_HEADER]


def accepts(webhooks: Webhooks, settings, secret):
    address = dialog360_webhook(settings, OTHER, 1).removeprefix("https://bots.example.com")
    answer = webhooks._client.post(address, json=BODY, headers={SECRET_HEADER: secret})
    if answer.status_code == 200:
        return True
    assert refusal(answer) == (401, "invalid_secret")
    return False


def test_a_rotated_secret_counts_at_once_and_the_former_one_for_an_hour(world, settings, rotate):
    before = told(world)
    assert accepts(world.webhooks, settings, before)
    rotate(OTHER, 1)
    after = told(world)
    assert after != before
    wait_until(lambda: accepts(world.webhooks, settings, after))
    assert accepts(world.webhooks, settings, before), "webhooks are on their way"
    execute(world.connection, "UPDATE dialog360_secret SET previous_until = now()")
    wait_until(lambda: not accepts(world.webhooks, settings, before))
    assert accepts(world.webhooks, settings, after)
    rotate(OTHER, 1)
    wait_until(lambda: accepts(world.webhooks, settings, told(world)))
    assert not accepts(world.webhooks, settings, before)
    assert after not in str(execute(world.connection, "SELECT * FROM dialog360_secret"))


def test_a_rotation_that_360dialog_refuses_changes_nothing(world, settings, rotate):
    before = told(world)
    world.provider.tell("/d360/v1/configs/webhook", {"meta": {"developer_message": "no"}}, 400, "POST")
    with pytest.raises(LinkFailed, match="webhook"):
        rotate(OTHER, 1)
    assert accepts(world.webhooks, settings, before)
    with world.webhooks._pool.connection() as connection:
        assert webhook_secrets.current(connection, settings, OTHER, 1) == before


def test_linking_again_keeps_the_rotated_secret(world, rotate):
    rotate(OTHER, 1)
    rotated = told(world)
    assert world.link(type="360dialog", phoneIndex=1, token="d360-0999").status_code == 200
    assert told(world) == rotated


def test_only_a_number_at_360dialog_has_a_secret(world, settings, rotate):
    for phone in (0, 7):
        with pytest.raises(UsageError, match="360dialog"):
            rotate(OTHER, phone)
    homeless = settings.copy_with(public_url=None)
    with contextlib.closing(Database(settings.database_dsn)) as pool, pytest.raises(ConfigError, match="PUBLIC_URL"):
        secret_rotation.rotate(pool.connection, homeless, OTHER, 1)


def test_a_removed_number_leaves_no_secret(world, rotate):
    rotate(OTHER, 1)
    assert world.ask("DELETE", f"/api/bots/{OTHER}/1").status_code == 200
    assert execute(world.connection, "SELECT * FROM dialog360_secret") == []


def test_the_secret_of_one_number_opens_no_other(world, settings, rotate):
    rotate(OTHER, 1)
    address = dialog360_webhook(settings, "0128", 1).removeprefix("https://bots.example.com")
    answer = world.webhooks._client.post(address, json=BODY, headers={SECRET_HEADER: told(world)})
    assert refusal(answer) == (401, "invalid_secret")
