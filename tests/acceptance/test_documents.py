"""The README's examples are true: every curl command, run in its order against a sandbox."""

from pathlib import Path

import pytest
import requests

from tests.support.curl import Curl, commands
from tests.support.deployment import Deployment
from tests.support.waiting import HANG_SECONDS, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()
#: A picture of one dot.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0000000"
    "030001005b1d2a3b0000000049454e44ae426082"
)
#: A WhatsApp Web session without a process: it shows a QR code, and does what it is told at once.
SESSION = """
INSERT INTO wa_session (bot_id, state, qr) SELECT id, 'SCAN_QR_CODE', '2@ref' FROM phone_configs WHERE phone_index = 2;
CREATE FUNCTION do_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.done_at := now();
    NEW.answer := '{"code": "ABCD-EFGH", "findings": []}';
    RETURN NEW;
END $$;
CREATE TRIGGER do_command BEFORE INSERT ON wa_command FOR EACH ROW EXECUTE FUNCTION do_command()"""


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path, HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", ENABLE_WWEBJS="false")
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot("0128")
    deployment.run("bots", "add", "--company", "0128", "--phone", "2", "--wwebjs")
    deployment.rows(SESSION)
    yield deployment
    deployment.close()


def test_every_example_of_the_readme_works(deployment, tmp_path):
    (tmp_path / "photo.png").write_bytes(PNG)
    settings = deployment.settings
    ports = {3000: settings.api_port, 3002: settings.meta_port, 3010: settings.sandbox_port}
    variables = {"KEY": deployment.run("keys", "create", "--company", "0128").stdout.strip()}
    variables["INCOMING_ID"] = a_message_that_came_in(deployment, variables["KEY"])
    examples = list(commands(README))
    assert len(examples) > 15
    for example in examples:
        answer = run(Curl(example, variables, tmp_path), ports)
        assert answer.status_code < 300, f"{example}\n{answer.status_code} {answer.text}"
        variables |= remembered(answer)


def a_message_that_came_in(deployment, key):
    """The provider's id of what a customer said, once the API knows it."""
    said = {"from": "60123456789", "to": "1001280", "text": "Hi"}
    (wamid,) = requests.post(f"{deployment.sandbox}/say", json=said, timeout=HANG_SECONDS).json()["ids"]
    address = f"{deployment.api}/api/v2/messages/0128/60123456789/{wamid}"
    wait_until(lambda: requests.get(address, headers={"X-Api-Key": key}, timeout=HANG_SECONDS).ok)
    return wamid


def run(command, ports):
    """The command's answer; what refers to a message that is still on its way is asked again."""
    answers = []

    def settled():
        answers.append(command.run(ports))
        return answers[-1].status_code != 409 or answers[-1].json()["code"] != "not_sent"

    wait_until(settled)
    return answers[-1]


def remembered(answer):
    """The ids that later examples name."""
    if "json" not in answer.headers.get("Content-Type", ""):
        answer.close()
        return {}
    found = answer.json() if isinstance(answer.json(), dict) else {}
    ids = {"MESSAGE_ID": found.get("messageId"), "WEBHOOK_ID": found.get("webhook", {}).get("id")}
    return {name: value for name, value in ids.items() if value}
