"""One message is followed through every process by its id, on a real deployment whose processes log at debug."""

import json
from collections.abc import Iterator

import pytest
import requests

from tests.support.deployment import Deployment
from tests.support.remote.customer import SECRET, Customer
from tests.support.waiting import HANG_SECONDS, wait_until

TEXT = "the words of a customer alone"
TOKEN = "sandbox-token"
SETTINGS = {"HEARTBEAT_INTERVAL": "1000", "API_INSTANCES": "1", "META_INSTANCES": "1", "ENABLE_WWEBJS": "false",
            "ALLOWED_NETWORKS": "127.0.0.0/8", "META_BACKOFF_MS": "100"}  # fmt: skip


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("deployment"), **SETTINGS)
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def customer(deployment: Deployment) -> Iterator[Customer]:
    customer = Customer()
    fields = {"company": "0100", "url": customer.url, "events": ["message.ack"], "secret": SECRET}
    headers = {"X-Api-Key": deployment.key}
    answer = requests.post(f"{deployment.api}/api/webhooks", json=fields, headers=headers, timeout=HANG_SECONDS)
    assert answer.status_code == 201, answer.text
    yield customer
    customer.close()


def levels(deployment: Deployment) -> dict[str, str]:
    return {row["name"]: row["level"] for row in json.loads(deployment.run("log-level", "--json").stdout)}


def events(deployment: Deployment, wanted: str) -> list[tuple[str, str]]:
    """The process and the name of each line about a message, in the order in which they are shown."""
    shown = deployment.run("logs", "--message", wanted, "--json").stdout.splitlines()
    return [(each["process"], each["event"]) for each in map(json.loads, shown)]


def set_level(deployment: Deployment, *words: str) -> None:
    """Sets levels and waits until every process has logged that it follows."""
    deployment.run("log-level", *words)
    wanted = {name for name, level in levels(deployment).items() if level == words[-1]}
    changed = ("logs", "--grep", f"log_level.changed .*to={words[-1]}", "--json")

    def processes() -> set[str]:
        return {json.loads(line)["process"] for line in deployment.run(*changed).stdout.splitlines()}

    wait_until(lambda: processes() >= wanted, what=deployment.logs)


def test_one_message_is_followed_through_api_worker_and_events(deployment: Deployment, customer: Customer) -> None:
    set_level(deployment, "all", "debug")
    deployment.behave(error_code=131056, times=1)
    answer = deployment.send("0100", "60123456789", TEXT, headers={"X-Request-Id": "trace-1"})
    message_id = answer.json()["messageId"]
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (202, "trace-1")
    wait_until(lambda: ("events", "event.delivered") in events(deployment, message_id), what=deployment.logs)
    found = events(deployment, message_id)
    assert found[:3] == [
        ("api-0", "message.accepted"), ("meta-worker-1", "message.sending"), ("meta-worker-1", "message.retried"),
    ]  # fmt: skip
    assert found.index(("meta-worker-1", "message.sent")) < found.index(("events", "event.delivered"))
    assert found[: len(found)] == events(deployment, "trace-1")[: len(found)]
    assert {call.event["payload"]["requestId"] for call in customer.taken} == {"trace-1"}


def test_no_line_has_a_text_or_a_credential(deployment: Deployment, customer: Customer) -> None:
    set_level(deployment, "all", "debug")
    bot = {"company": "0100", "phoneIndex": "0"}
    deployment.send("0100", "60123456780", TEXT, params={"wait": "10"}, headers={"X-Request-Id": "secret-1"})
    requests.get(
        f"{deployment.api}/api/v2/bots", params=bot, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS
    )
    wait_until(lambda: ("events", "event.delivered") in events(deployment, "secret-1"), what=deployment.logs)
    written = "".join(path.read_text(errors="replace") for path in deployment.settings.log_dir.iterdir())
    assert "message.sending" in written
    secrets = [TEXT, TOKEN, SECRET, deployment.key, deployment.settings.encryption_key.get_secret_value()]
    assert [secret for secret in secrets if secret in written] == []


def test_a_level_ends_at_once_and_with_its_process(deployment: Deployment) -> None:
    set_level(deployment, "meta-worker", "api", "error")
    assert levels(deployment)["meta-worker-1"] == "error"
    set_level(deployment, "api", "debug")
    deployment.run("restart", "meta-worker")
    assert levels(deployment)["meta-worker-1"] == "info"
    assert levels(deployment)["api-0"] == "debug"
    deployment.run("log-level", "all", "default")
    assert set(levels(deployment).values()) == {"info"}


def test_levels_can_be_set_without_postgresql_and_wrong_words_are_named(deployment: Deployment) -> None:
    deployment.run("stop", "postgres")
    set_level(deployment, "events", "warning")
    assert "UNTIL" in deployment.run("log-level").stdout.upper()
    for words, says in (
        (("debug",), "log-level all debug"),
        (("postgres", "debug"), "settings of its own"),
        (("nobody", "debug"), "unknown name nobody"),
        (("api", "debug", "--for", "2d"), "24h"),
        (("api", "--for", "2m"), "name a level"),
    ):
        done = deployment.run("log-level", *words, check=False)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    deployment.run("start", "--multiprocess", "--sandbox")
