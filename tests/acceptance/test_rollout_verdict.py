"""A rollout that runs by itself: it advances while the verdict is a pass, and goes back after a fail."""

import json

import pytest

from tests.support.deployment import Deployment
from tests.support.two_sides import Writers, add_bots
from tests.support.waiting import wait_until

BOTS = 4
#: Messages a second.
RATE = 24.0


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(
        tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false",
        API_INSTANCES="1", META_INSTANCES="1", ROLLOUT_FAILURE_MARGIN="15", ROLLOUT_LATENCY_RATIO="100",
        ROLLOUT_TEST_CHATS="0100/0:60199999999",
    )  # fmt: skip
    deployment.run("start", "--legacy", "--sandbox")
    yield deployment
    deployment.close()


def rollout_status(deployment):
    return json.loads(deployment.run("rollout", "status", "--json").stdout)


def owners(deployment):
    return dict(deployment.rows("SELECT owner, count(*) FROM bot_pace GROUP BY 1"))


def wait_for(deployment, condition):
    wait_until(lambda: condition(rollout_status(deployment)), 180, lambda: str(rollout_status(deployment)))


def test_a_good_rollout_advances_by_itself_to_the_end(deployment):
    add_bots(deployment, BOTS)
    with Writers(deployment, BOTS, RATE) as writers:
        wait_until(lambda: len(writers.accepted) > 100)
        deployment.run("rollout", "run", "--detach", "50%:2s,100%:2s")
        wait_for(deployment, lambda found: found["figures"].get("multiprocess", {}).get("sent", 0) > 10)
        screen = deployment.run("rollout", "status").stdout
        wait_for(deployment, lambda found: found["rollout"]["phase"] != "forward")
        found = rollout_status(deployment)
    assert found["rollout"]["phase"] == "done", json.dumps(found["rollout"])
    assert owners(deployment) == {"multiprocess": BOTS}
    assert "since the step began" in screen
    assert "bots up" in screen
    probes = dict(deployment.rows("SELECT is_probe, count(*) FROM outbox GROUP BY 1"))
    assert probes[True] >= 1
    assert probes[False] == len(writers.accepted)


def test_moved_bots_whose_messages_fail_go_back_by_themselves(deployment):
    add_bots(deployment, BOTS)
    deployment.behave(match="broken", error_code=131026)
    with Writers(deployment, BOTS, RATE) as writers:
        wait_until(lambda: len(writers.accepted) > 100)
        deployment.run("rollout", "run", "--detach", "50%:10m,100%")
        moved = [bot for (bot,) in deployment.rows(
            "SELECT phone_index FROM phone_configs c JOIN bot_pace p ON p.bot_id = c.id WHERE p.owner = 'multiprocess'"
        )]  # fmt: skip
        assert len(moved) == BOTS // 2
        writers.words = dict.fromkeys(moved, "broken")
        wait_for(deployment, lambda found: found["rollout"]["phase"] == "undone")
        found = rollout_status(deployment)
    assert "messages failed on the moved side" in found["rollout"]["reason"]
    assert owners(deployment) == {"legacy": BOTS}
