"""The folder `examples` works: the commands of its README, run against a sandbox, and what may go wrong."""

import contextlib
import hashlib
import hmac
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.deployment import Deployment, free_ports
from tests.support.relay import Relay
from tests.support.terminal import Running, Terminal, blocks_by_section
from tests.support.waiting import HANG_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
SECTIONS = blocks_by_section((ROOT / "examples" / "README.md").read_text())
SEND = "Send a message"
PYWA = "pywa against the sandbox"
IN_PYTHON = "Receive events in Python"
IN_NODE = "Receive events in Node.js"

#: The two programs that send, as they are run.
SENDERS = {"python": ".venv/bin/python examples/send_message.py", "node": "node examples/send_message.mjs"}
#: The receivers: the section, and which of its blocks starts one.
RECEIVERS = {"flask": (IN_PYTHON, 1), "gunicorn": (IN_PYTHON, 3), "node": (IN_NODE, 1)}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The deployment of the quickstart, without WhatsApp Web: company 0100 with a number, and its key in a file."""
    deployment = Deployment(
        tmp_path_factory.mktemp("checkout"), HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1",
        ENABLE_WWEBJS="false",
    )  # fmt: skip
    (deployment.folder / ".venv").symlink_to(sys.prefix)
    (deployment.folder / "examples").symlink_to(ROOT / "examples")
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    key = deployment.run("keys", "create", "--company", "0100").stdout
    (deployment.settings.home / "quickstart.key").write_text(key)
    yield deployment
    deployment.close()


@pytest.fixture
def key(deployment: Deployment) -> str:
    return (deployment.settings.home / "quickstart.key").read_text().strip()


@pytest.fixture
def port() -> int:
    """The port of a receiver of webhooks."""
    return free_ports(1)[0]


@pytest.fixture
def terminal(deployment: Deployment, port: int) -> Terminal:
    settings = deployment.settings
    ports = {3000: settings.api_port, 3010: settings.sandbox_port, 8080: port}
    addresses = {
        "BISNES_API_URL": deployment.api,
        "SANDBOX_URL": f"http://127.0.0.1:{settings.sandbox_port}",
        "WEBHOOK_PORT": str(port),
        "NO_PROXY": "127.0.0.1",
        "PATH": f"{sys.prefix}/bin:{deployment.environment['PATH']}",  # for the Node.js of the `dev` extra
    }
    return Terminal(deployment.folder, deployment.environment | addresses, ports)


def call(deployment: Deployment, key: str, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Call the API as the company."""
    answer = requests.request(
        method, f"{deployment.api}{path}", headers={"X-Api-Key": key}, timeout=HANG_SECONDS, **options
    )
    assert answer.ok, answer.text
    return dict(answer.json())


def received_texts(deployment: Deployment) -> list[str]:
    """The texts that the provider received, in order."""
    return [message["text"] for message in deployment.received()]


# --- The README ------------------------------------------------------------------------------------------------


def test_no_block_of_the_readme_is_left_out() -> None:
    assert {heading: len(blocks) for heading, blocks in SECTIONS.items()} == {
        "": 1, SEND: 2, IN_PYTHON: 4, IN_NODE: 3, PYWA: 3
    }  # fmt: skip
    assert SECTIONS[""] == ["scripts/quickstart\n"]  # test_quickstart runs it


def test_the_readme_lists_every_example() -> None:
    readme = (ROOT / "examples" / "README.md").read_text()
    files = {path.name for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".mjs")}
    assert files == {Path(link).name for link in re.findall(r"\]\(((?!http)[^)]+)\)", readme)}


# --- Sending ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [0, 1], ids=["python", "node"])
def test_a_message_is_sent_once_however_often_the_command_runs(
    deployment: Deployment, terminal: Terminal, block: int
) -> None:
    before = len(deployment.received())
    first = terminal.run(SECTIONS[SEND][block]).stdout.splitlines()
    again = terminal.run(SECTIONS[SEND][block]).stdout.splitlines()
    assert first[0] == again[0]
    assert re.fullmatch("accepted as [0-9a-f-]{36}", first[0])
    assert {first[-1], again[-1]} <= {"delivered", "read"}
    assert received_texts(deployment)[before:] == ["Your order is ready"]


@pytest.mark.parametrize("program", SENDERS.values(), ids=SENDERS)
def test_a_busy_server_and_a_lost_answer_do_not_double_a_message(
    deployment: Deployment, terminal: Terminal, key: str, program: str
) -> None:
    relay, text = Relay(deployment.api, 429, 503, "cut"), f"In spite of all {next(_numbers)}"
    done = terminal.run(
        f'{program} --company 0100 --to 60123456789 "{text}"', BISNES_API_URL=relay.url, BISNES_API_KEY=key
    )
    relay.close()
    posts = [each for each in relay.requests if each.method == "POST"]
    assert len(posts) == 4
    assert len({each.headers["Idempotency-Key"] for each in posts}) == 1
    assert re.findall("HTTP ([0-9]+): next attempt in 2 s", done.stderr) == ["429", "503"]
    assert "no answer" in done.stderr
    assert received_texts(deployment).count(text) == 1


@pytest.mark.parametrize("program", SENDERS.values(), ids=SENDERS)
def test_a_send_that_fails_says_why_and_never_shows_the_key(
    deployment: Deployment, terminal: Terminal, key: str, program: str
) -> None:
    send = f"{program} --company 0100 --to 60123456789"
    deployment.behave(match="refused please", error_code=131026)
    gateway = Relay(deployment.api, 502)
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    trials = [
        (f"{send} Hello", {}, 2, "set BISNES_API_KEY"),
        (f"{send} Hello", {"BISNES_API_KEY": "wrong"}, 1, "HTTP 401 invalid_key: "),
        (f"{send} Hello", {"BISNES_API_KEY": key, "BISNES_API_URL": gateway.url}, 1, "without JSON"),
        (f"{send} 'refused please'", {"BISNES_API_KEY": key}, 1, "the message failed: "),
        (f"{send} --wait 0 Hello", {"BISNES_API_KEY": key, "BISNES_API_URL": nowhere}, 3, "--idempotency-key "),
        (f"{send} Hello world", {"BISNES_API_KEY": key}, 2, "usage"),
    ]
    for block, variables, code, reason in trials:
        done = terminal.run(block, check=False, **variables)
        assert (done.returncode, reason in done.stderr) == (code, True), f"{block}\n{done.stdout}{done.stderr}"
        assert key not in done.stdout + done.stderr
    gateway.close()


# --- Receiving -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(terminal: Terminal, block: str, port: int) -> Iterator[Running]:
    """The receiver that a block starts, once it listens."""
    running = terminal.start(block)
    try:
        wait_until(lambda: answers(port), 100, running.everything)
        yield running
    finally:
        running.kill()


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=HANG_SECONDS).status_code == 404
    except requests.ConnectionError:
        return False


@pytest.fixture
def webhook(deployment: Deployment, terminal: Terminal, key: str, port: int) -> Iterator[str]:
    """The id of the webhook that the README registers; both receivers have the same block for it."""
    assert SECTIONS[IN_PYTHON][0] == SECTIONS[IN_NODE][0]
    terminal.run(SECTIONS[IN_PYTHON][0])
    (found,) = [each["id"] for each in call(deployment, key, "GET", "/api/webhooks")["webhooks"]]
    yield found
    call(deployment, key, "DELETE", f"/api/webhooks/{found}")
    for path in deployment.settings.home.glob("webhook-events.*"):
        path.unlink()


def secret_of(deployment: Deployment) -> str:
    path = deployment.settings.home / "webhook.secret"
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text().strip()


def sign(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()


def post(port: int, body: bytes, secret: str, *, sent: float | None = None, **headers: str) -> requests.Response:
    """Call a receiver as documented; `headers` replace those of a genuine call, and an empty one is left out."""
    genuine = {
        "X-Webhook-Hmac": sign(secret, body),
        "X-Webhook-Timestamp": str(int((sent or time.time()) * 1000)),
    }
    given = genuine | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(
        f"http://127.0.0.1:{port}/webhooks",
        body,
        headers={k: v for k, v in given.items() if v},
        timeout=HANG_SECONDS,
    )


def event(text: str) -> bytes:
    """An event of its own, written in another way than a JSON library would."""
    number = next(_numbers)
    payload = {"chatId": "60111", "body": text}
    return json.dumps({"id": f"evt_TEST{number:022}", "event": "message", "payload": payload}, indent=3).encode()


@pytest.mark.parametrize(("section", "block"), RECEIVERS.values(), ids=RECEIVERS)
def test_a_real_event_arrives_and_a_webhook_gets_a_new_secret_without_a_loss(
    deployment: Deployment, terminal: Terminal, key: str, port: int, webhook: str, section: str, block: int
) -> None:
    say, since = SECTIONS[section][2], int(time.time() * 1000)
    with started(terminal, SECTIONS[section][block], port) as receiver:
        terminal.run(say)
        receiver.expect("60123456789 says: Where is my order?")
        old = secret_of(deployment)
        terminal.run(SECTIONS[section][0])
        assert secret_of(deployment) != old
        terminal.run(say.replace("Where is my order?", "After the rotation"))
        receiver.expect("60123456789 says: After the rotation")
    terminal.run(say.replace("Where is my order?", "While it was down"))
    with started(terminal, SECTIONS[section][block], port) as receiver:
        receiver.expect("60123456789 says: While it was down")
        call(deployment, key, "POST", f"/api/webhooks/{webhook}/replay", json={"since": since})
        wait_until(lambda: pending(deployment, key, webhook) == 0, 100, receiver.everything)
        terminal.run(say.replace("Where is my order?", "And the last"))
        receiver.expect("60123456789 says: And the last")
        said = re.findall("says: (.*)", receiver.output())
        # The kill may come after the second text was handled and before the receiver noted it: it is handled again.
        assert [text for text in said if text != "After the rotation"] == ["While it was down", "And the last"]


def pending(deployment: Deployment, key: str, webhook: str) -> int:
    return int(call(deployment, key, "GET", f"/api/webhooks/{webhook}")["webhook"]["pending"])


@pytest.mark.parametrize(("section", "block"), RECEIVERS.values(), ids=RECEIVERS)
def test_a_call_is_accepted_only_if_it_is_genuine_recent_and_new(
    deployment: Deployment, terminal: Terminal, port: int, webhook: str, section: str, block: int
) -> None:
    secret, now = secret_of(deployment), time.time()
    genuine, other = event("genuine"), event("forged")
    signature = sign(secret, other)
    with started(terminal, SECTIONS[section][block], port) as receiver:
        assert post(port, genuine, secret).text == "stored"
        assert post(port, genuine, secret).text == "known already"
        refused = [
            post(port, other, "another secret"),
            post(port, other + b" ", secret, X_Webhook_Hmac=signature),
            post(port, other, secret, X_Webhook_Hmac=""),
            post(port, other, secret, X_Webhook_Hmac=signature[:-1]),
            post(port, other, secret, X_Webhook_Hmac="é" * 64),
            post(port, other, secret, sent=now - 600),
            post(port, other, secret, sent=now + 600),
            post(port, other, secret, X_Webhook_Timestamp=""),
            post(port, other, secret, X_Webhook_Timestamp="9" * 5000),
            post(port, other, secret, X_Webhook_Timestamp="soon"),
        ]
        assert [each.status_code for each in refused] == [401] * len(refused)
        while_rotated = event("signed with the secret before")
        before = sign(secret, while_rotated)
        answer = post(port, while_rotated, secret, X_Webhook_Hmac="0" * 128, X_Webhook_Hmac_Previous=before)
        assert answer.text == "stored"
        receiver.expect("60111 says: signed with the secret before")
    with started(terminal, SECTIONS[section][block], port) as receiver:
        assert post(port, genuine, secret).text == "known already"
        assert post(port, other, secret, sent=now - 200).text == "stored"
        receiver.expect("60111 says: forged")
        assert "genuine" not in receiver.output()


@pytest.mark.parametrize(("section", "block"), RECEIVERS.values(), ids=RECEIVERS)
def test_a_receiver_survives_what_it_cannot_read(
    deployment: Deployment, terminal: Terminal, port: int, webhook: str, section: str, block: int
) -> None:
    secret = secret_of(deployment)
    with started(terminal, SECTIONS[section][block], port) as receiver:
        assert post(port, b"not JSON", secret).status_code == 500
        with contextlib.suppress(requests.ConnectionError):  # it may close before it has read everything
            assert post(port, b"x" * 5_000_000, secret).status_code == 413
        assert post(port, event("still there"), secret).text == "stored"
        receiver.expect("60111 says: still there")


@pytest.mark.parametrize(
    "program",
    [".venv/bin/python examples/webhook_receiver/receiver.py", "node examples/webhook_receiver/receiver.mjs"],
    ids=["python", "node"],
)
def test_a_receiver_without_a_secret_does_not_start(terminal: Terminal, program: str) -> None:
    done = terminal.run(program, check=False)
    assert done.returncode == 1
    assert "set WEBHOOK_SECRET" in done.stderr


# --- pywa ------------------------------------------------------------------------------------------------------


def test_pywa_is_of_the_version_that_is_tested() -> None:
    (requirement,) = re.findall(r"pip install '(pywa[^']+)'", SECTIONS[PYWA][0])
    assert f"    {requirement}\n" in (ROOT / "setup.cfg").read_text()
    assert requirement in (ROOT / "examples" / "pywa_sandbox.py").read_text()


def test_pywa_sends_and_answers_and_other_numbers_keep_their_webhooks(
    deployment: Deployment, terminal: Terminal
) -> None:
    install, start, say = SECTIONS[PYWA]
    terminal.run(install, PIP_NO_INDEX="1")  # it is installed
    program = terminal.start(start)
    try:
        program.expect("sent as ")
        program.expect(" is read")
        terminal.run(say)
        program.expect(" says: Hello")
        wait_until(lambda: "You said: Hello" in received_texts(deployment), 100, program.everything)
        sent = deployment.send("0100", "60123456789", "From the other number", params={"wait": 30}).json()
        wait_until(lambda: status(deployment, sent["messageId"]) in ("delivered", "read"), 100, deployment.logs)
        assert program.interrupt() == 0, program.everything()
    finally:
        program.kill()


def status(deployment: Deployment, message_id: str) -> str:
    path = f"/api/v2/messages/0100/60123456789/{message_id}"
    return str(call(deployment, deployment.key, "GET", path)["status"])
