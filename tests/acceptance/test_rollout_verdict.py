"""A rollout that runs by itself: it advances while the verdict is a pass, and goes back after a fail."""

import json

import pytest

from tests.support.deployment import Deployment
from tests.support.two_sides import Writers, add_bots, owners, rollout_phase
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


def wait_for_end(deployment):
    """Until the rollout no longer goes forward or back; returns its last phase."""
    return wait_until(
        lambda: (phase := rollout_phase(deployment)) in ("done", "undone") and phase, 180,
        lambda: f"{rollout_status(deployment)}\n{deployment.logs()}",
    )  # fmt: skip


def test_a_good_rollout_advances_by_itself_to_the_end(deployment):
    add_bots(deployment, BOTS)
    with Writers(deployment, range(BOTS), RATE) as writers:
        wait_until(lambda: len(writers.accepted) > 100)
        deployment.run("rollout", "run", "--detach", "50%:2s,100%:2s")
        assert wait_for_end(deployment) == "done", rollout_status(deployment)
    assert owners(deployment) == {"multiprocess": BOTS}
    probes = dict(deployment.rows("SELECT is_probe, count(*) FROM outbox GROUP BY 1"))
    assert probes[True] >= 1
    assert probes[False] == len(writers.accepted)


def test_moved_bots_whose_messages_fail_go_back_by_themselves(deployment):
    add_bots(deployment, BOTS)
    deployment.behave(match="broken", error_code=131026)
    with Writers(deployment, range(BOTS), RATE) as writers:
        wait_until(lambda: len(writers.accepted) > 100)
        deployment.run("rollout", "run", "--detach", "50%:10m,100%")
        moved = [bot for (bot,) in deployment.rows(
            "SELECT phone_index FROM phone_configs c JOIN bot_pace p ON p.bot_id = c.id WHERE p.owner = 'multiprocess'"
        )]  # fmt: skip
        assert len(moved) == BOTS // 2
        screen = deployment.run("rollout", "status").stdout
        writers.words = dict.fromkeys(moved, "broken")
        assert wait_for_end(deployment) == "undone"
    found = rollout_status(deployment)
    assert "since the step began" in screen
    assert "bots up" in screen
    assert "messages failed on the moved side" in found["rollout"]["reason"]
    assert owners(deployment) == {"legacy": BOTS}
