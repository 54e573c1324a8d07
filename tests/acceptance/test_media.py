"""A picture's way through the whole deployment: a customer sends it, the workers fetch it, the API serves it."""

import pytest
import requests

from tests.support.deployment import Deployment
from tests.support.waiting import HANG_SECONDS, wait_until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1", ENABLE_WWEBJS="false"
    )
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot("0128")
    yield deployment
    deployment.close()


def test_a_customers_picture_is_downloaded_and_served(deployment, tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    deployment.run("sandbox", "say", "--company", "0128", "Look", "--image", str(tmp_path / "cat.png"))
    wait_until(lambda: message(deployment))
    wait_until(lambda: fetched(deployment))
    url, key = message(deployment)
    answer = ask(deployment, url)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, PNG, "image/png")
    assert (deployment.settings.home / "media" / key).read_bytes() == PNG


def message(deployment):
    """The picture's address and where it is kept; None until it has arrived."""
    rows = deployment.rows("SELECT media_url, media_metadata ->> 'key' FROM messages WHERE content = 'Look'")
    return rows[0] if rows else None


def fetched(deployment):
    """Whether the picture is there; until then it must be said to be on its way."""
    answer = ask(deployment, message(deployment)[0])
    assert answer.status_code == 200 or answer.json()["code"] == "media_pending"
    return answer.status_code == 200


def ask(deployment, url):
    return requests.get(deployment.api + url, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS)
