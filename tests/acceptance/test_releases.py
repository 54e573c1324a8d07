"""Releases side by side: bad ones under load, an interrupted switch, and the way back, as an operator has it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support import releases
from tests.support.deployment import Deployment
from tests.support.steady_load import request, steady_load
from tests.support.waiting import wait_until

#: Seconds for which the first good release is watched, and those after which a bad one begins to fail.
WATCH, HEALTHY = "30", 2.0
#: Requests in a second. docs/how-to/upgrade.md has the outcomes with 100.
RATE = 20
#: Seconds that slow releases take longer.
SLOWER = 1.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A deployment that runs in place, in which release 1 is installed: the same code."""
    folder = tmp_path_factory.mktemp("releases")
    wheel = releases.build_wheel(folder)
    home = folder / "deployment"
    home.mkdir()
    made = Deployment(
        home, HEARTBEAT_INTERVAL="500", META_INSTANCES="1", API_INSTANCES="2", ENABLE_WWEBJS="false"
    )  # fmt: skip
    try:
        made.environment |= releases.pip_environment(folder)
        made.run("start", "--multiprocess", "--sandbox")
        made.add_demo_bot()
        made.run("release", "install", str(wheel))
        yield made
    finally:
        made.close()


def requests_of(deployment):
    """Requests that a customer's system would send."""
    path = "/api/v2/messages/text/0100/60123456789"
    key = {"X_Api_Key": deployment.key}
    return (
        request(
            deployment.settings.api_port, path, "POST", '{"message": "hello"}', Content_Type="application/json", **key
        ),
        request(deployment.settings.api_port, "/api/v2/messages/0100/60123456789", **key),
    )


def listed(deployment):
    return {each["number"]: each for each in json.loads(deployment.run("release", "list", "--json").stdout)["releases"]}


def serving(deployment):
    """The numbers of the releases whose processes serve."""
    rows = listed(deployment).values()
    return {
        each["number"] for each in rows if any(name.startswith(("api", "meta", "events")) for name in each["processes"])
    }


def pids(deployment):
    return {name: row["pid"] for name, row in deployment.status().items()}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (releases.IMPORT_ERROR, "a_module_that_does_not_exist"),
        (releases.FAILS_SELF_TEST, "/health/ready answers 503"),
    ],
)
def test_a_release_that_cannot_work_takes_no_request(deployment, bad, reason):
    number = releases.clone(deployment.settings.home, 1, bad)
    before = pids(deployment)
    with steady_load(*requests_of(deployment), rate=RATE) as outcomes:
        done = deployment.run("release", "switch", str(number), check=False)
    assert done.returncode == 5
    assert reason in done.stderr
    assert set(outcomes.counts) == {"202", "200"}
    assert pids(deployment) == before
    row = listed(deployment)[number]
    assert row["state"] == "failed"
    assert reason in row["reason"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (releases.failing_after(HEALTHY), "the API does not answer the watch: it answered 500"),
        (releases.slow_by(SLOWER), "slow"),
    ],
)
def test_a_release_that_turns_out_bad_goes_back_by_itself(deployment, bad, reason):
    number = releases.clone(deployment.settings.home, 1, bad)
    before = serving(deployment)
    with steady_load(*requests_of(deployment), rate=RATE) as outcomes:
        done = deployment.run("release", "switch", str(number), "--watch", WATCH, check=False)
    assert done.returncode == 5
    assert reason in done.stderr
    assert "went back: everything runs the release before" in done.stderr
    assert set(outcomes.counts) <= {"202", "200", "500"}  # answered by the bad release; none was refused
    assert serving(deployment) == before
    assert {row["status"] for row in deployment.status().values()} == {"healthy"}
    assert listed(deployment)[number]["state"] == "failed"


def test_a_good_release_becomes_current_and_the_checkout_is_the_way_back(deployment):
    with steady_load(*requests_of(deployment), rate=RATE) as outcomes:
        done = deployment.run("release", "switch", "1", "--watch", "3")
    assert set(outcomes.counts) == {"202", "200"}
    assert "to return: bisnesctl release rollback" in done.stderr
    assert (serving(deployment), (deployment.settings.home / "releases" / "current").resolve().name) == ({1}, "0001")
    deployment.run("restart", "meta-worker")  # typed with the checkout's Python
    assert serving(deployment) == {1}
    again = releases.clone(deployment.settings.home, 1, {})
    deployment.run("release", "switch", str(again), "--watch", "0")
    assert listed(deployment)[1]["state"] == "previous"
    deployment.run("release", "rollback", "--watch", "0")
    assert serving(deployment) == {1}
    pruned = deployment.run("release", "prune", "--keep", "0")
    assert f"removed release {again}" in pruned.stdout
    assert [number for number in listed(deployment) if number] == [1]


def test_a_killed_switch_is_undone_by_the_guard(deployment):
    number = releases.clone(deployment.settings.home, 1, {})
    before = serving(deployment)
    tool = subprocess.Popen(
        [sys.executable, "-m", "bisnesctl", "release", "switch", str(number), "--watch", "600"],
        cwd=deployment.folder, env=deployment.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: serving(deployment) == {number})
    refused = deployment.run("restart", "events", check=False)
    assert refused.returncode == 6
    assert f"bisnesctl release switch {number}" in refused.stderr
    os.kill(tool.pid, signal.SIGKILL)
    tool.wait()
    wait_until(lambda: listed(deployment)[number]["state"] == "failed")
    assert serving(deployment) == before
    assert "interrupted" in listed(deployment)[number]["reason"]
