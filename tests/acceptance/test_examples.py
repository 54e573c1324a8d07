"""The README's examples are true: every curl command, run in its order against a sandbox."""

from pathlib import Path

import pytest

from tests.acceptance.curl import Curl, commands
from tests.acceptance.deployment import Deployment

README = (Path(__file__).parents[2] / "README.md").read_text()
#: A picture of one dot.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0000000"
    "030001005b1d2a3b0000000049454e44ae426082"
)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path, HEARTBEAT_INTERVAL="1000", API_INSTANCES="1")
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot("0128")
    yield deployment
    deployment.close()


def test_every_example_of_the_readme_works(deployment, tmp_path):
    (tmp_path / "photo.png").write_bytes(PNG)
    settings = deployment.settings
    ports = {3000: settings.api_port, 3002: settings.meta_port, 3010: settings.sandbox_port}
    variables = {"KEY": deployment.run("keys", "create", "--company", "0128").stdout.strip()}
    examples = list(commands(README))
    assert len(examples) > 15
    for example in examples:
        answer = Curl(example, variables, tmp_path).run(ports)
        assert answer.status_code < 300, f"{example}\n{answer.status_code} {answer.text}"
        variables |= remembered(answer)


def remembered(answer):
    """The ids that later examples name."""
    if "json" not in answer.headers.get("Content-Type", ""):
        answer.close()
        return {}
    found = answer.json() if isinstance(answer.json(), dict) else {}
    ids = {"MESSAGE_ID": found.get("messageId"), "WEBHOOK_ID": found.get("webhook", {}).get("id")}
    return {name: value for name, value in ids.items() if value}
