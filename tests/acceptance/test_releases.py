"""Releases side by side: bad ones under load, an interrupted switch, and the way back, as an operator has it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from bisnesctl.processes import switch_records
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.releases import programs
from bisnesctl.releases.store import CHECKOUT, Store
from tests.support import releases
from tests.support.deployment import Deployment
from tests.support.steady_load import request, steady_load
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import COMPANY, WebDeployment

#: Seconds for which a bad release is watched, and those after which one begins to fail.
WATCH = os.environ.get("RELEASES_WATCH", "30")
HEALTHY = float(os.environ.get("RELEASES_HEALTHY", "2"))
#: Requests in a second. docs/how-to/upgrade.md has the outcomes with 100.
RATE = float(os.environ.get("RELEASES_RATE", "10"))
#: The beginnings of the names of processes that serve people.
SERVING = ("api", "meta", "events", "wwebjs", "legacy")
#: Seconds that slow releases take longer.
SLOWER = 1.0

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout."""
    return releases.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory, wheel):
    """A deployment that runs in place, in which release 1 is installed: the same code."""
    made = Deployment(
        tmp_path_factory.mktemp("releases"), HEARTBEAT_INTERVAL="500", META_INSTANCES="1", API_INSTANCES="2",
        ENABLE_WWEBJS="false",
    )  # fmt: skip
    try:
        made.environment |= releases.pip_environment(wheel.parent)
        made.run("start", "--multiprocess", "--sandbox")
        made.add_demo_bot()
        made.run("release", "install", str(wheel))
        yield made
    finally:
        made.close()


@pytest.fixture
def web_deployment(tmp_path, wheel):
    """The same with a linked WhatsApp Web number."""
    made = WebDeployment(tmp_path, HEARTBEAT_INTERVAL="500", META_INSTANCES="1", API_INSTANCES="1")
    try:
        made.environment |= releases.pip_environment(wheel.parent)
        made.run("start", "--multiprocess", "--sandbox")
        made.add_web_bot(1)
        made.link(1)
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
    """The numbers of the releases whose processes serve. While one waits, a command would cost too much."""
    home, processes = deployment.settings.home, Supervisor(deployment.settings.run_dir).processes()
    folders = {each.number: each.folder for each in Store(home).installed()} | {CHECKOUT: Path(sys.prefix)}
    return {
        number
        for number, folder in folders.items()
        if any(name.startswith(SERVING) for name in programs.running(processes, folder))
    }


def pids(deployment):
    return {name: each.pid for name, each in Supervisor(deployment.settings.run_dir).processes().items()}


def wait_for_end_of_switch(deployment):
    """Until a switch is accepted or undone: by its command, or by the guard if that was killed or failed."""
    wait_until(lambda: switch_records.read(deployment.settings.home) is None, 240,
               lambda: f"{switch_records.read(deployment.settings.home)}\n{deployment.logs()}")  # fmt: skip


@pytest.fixture
def switch_under_load(request, capsys):
    """Switches while requests arrive; returns the command and their outcomes, and prints both."""

    def run(deployment, *words):
        with steady_load(*requests_of(deployment), rate=RATE) as outcomes:
            began = time.monotonic()
            done = deployment.run("release", "switch", *words, check=False)
            seconds = time.monotonic() - began
        with capsys.disabled():
            print(f"\n{request.node.name}: {outcomes.total} requests, {RATE:g} in a second: {dict(outcomes.counts)}; "
                  f"the command, with the way back, took {seconds:.0f} s")  # fmt: skip
        return done, outcomes

    return run


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (releases.IMPORT_ERROR, "a_module_that_does_not_exist"),
        (releases.FAILS_SELF_TEST, "/health/ready answers 503"),
    ],
)
def test_a_release_that_cannot_work_takes_no_request(deployment, switch_under_load, bad, reason):
    number = releases.clone(deployment.settings.home, 1, bad)
    before = pids(deployment)
    done, outcomes = switch_under_load(deployment, str(number))
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
def test_a_release_that_turns_out_bad_goes_back_by_itself(deployment, switch_under_load, bad, reason):
    number = releases.clone(deployment.settings.home, 1, bad)
    before = serving(deployment)
    done, outcomes = switch_under_load(deployment, str(number), "--watch", WATCH)
    assert done.returncode == 5
    assert reason in done.stderr
    wait_for_end_of_switch(deployment)
    assert set(outcomes.counts) <= {"202", "200", "500"}  # answered by the bad release; none was refused
    assert serving(deployment) == before
    assert {row["status"] for row in deployment.status().values()} == {"healthy"}
    assert listed(deployment)[number]["state"] == "failed"


def test_a_release_that_removes_what_the_running_one_needs_is_refused(deployment):
    number = releases.clone(deployment.settings.home, 1, {})
    contract = "-- contract since 99.0: nobody reads it\nDROP TABLE lane;\n"
    releases.add_migration(deployment.settings.home, number, contract)
    before = pids(deployment)
    done = deployment.run("release", "switch", str(number), check=False)
    assert done.returncode == 5
    assert "comes too soon after the checkout" in done.stderr
    assert "releases before 99.0 need" in done.stderr
    assert pids(deployment) == before
    assert deployment.rows("SELECT to_regclass('lane') IS NOT NULL") == [(True,)]


def test_a_good_release_becomes_current_and_the_checkout_is_the_way_back(deployment, switch_under_load):
    done, outcomes = switch_under_load(deployment, "1", "--watch", "3")
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
    wait_for_end_of_switch(deployment)
    assert serving(deployment) == before
    row = listed(deployment)[number]
    assert (row["state"], "interrupted" in row["reason"]) == ("failed", True)


def test_a_switch_takes_sessions_with_it_and_works_in_the_old_process_too(web_deployment):
    ports = web_deployment.settings.api_port, web_deployment.settings.port

    def send(text, port):
        answer = requests.post(
            f"http://127.0.0.1:{port}/api/v2/messages/text/{COMPANY}/60171112222",
            json={"message": text, "phoneIndex": 1}, headers={"X-Api-Key": web_deployment.key}, params={"wait": 30},
            timeout=HANG_SECONDS,
        )  # fmt: skip
        assert answer.status_code in (200, 202), answer.text  # on a busy machine it takes longer than the wait

    web_deployment.run("release", "switch", "1", "--watch", "3")
    assert serving(web_deployment) == {1}
    web_deployment.wait_for("WORKING", 1)
    send("from release 1", ports[0])
    web_deployment.run("rollback")
    assert serving(web_deployment) == {1}
    send("from its old process", ports[1])
    web_deployment.run("release", "switch", "0", "--watch", "3")
    assert serving(web_deployment) == {CHECKOUT}
    send("from the old process of the checkout", ports[1])
    texts = ["from release 1", "from its old process", "from the old process of the checkout"]
    wait_until(
        lambda: [each["body"] for each in web_deployment.arrived(web_deployment.numbers[1])] == texts, 120,
        lambda: f"{web_deployment.statuses()}\n{web_deployment.logs()}",
    )  # fmt: skip
    wait_until(lambda: {row["status"] for row in web_deployment.status().values()} == {"healthy"}, 120)
