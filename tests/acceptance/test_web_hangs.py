"""WhatsApp Web sessions with hanging processes, on a busy machine, and without a database."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import requests

from tests.support.deployment import alive, descendants
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import COMPANY, WebDeployment, command_of

pytestmark = pytest.mark.timeout(1500)

#: Phone index of the linked number.
LINKED = 1
#: Phone index of the number that is never linked.
UNLINKED = 2
#: How long a recovery may take.
RECOVERY_SECONDS = 400
#: MAX_HEARTBEAT_AGE: a process without a heartbeat for twice as long hangs.
MAX_HEARTBEAT_AGE_MS = 10_000
#: Processes that only compute, all on one processor.
BUSY_PROCESSES = 15
#: They end by themselves after this time.
BUSY_SECONDS = 600


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = WebDeployment(
        tmp_path_factory.mktemp("web"), API_INSTANCES="1", META_INSTANCES="1", HEARTBEAT_INTERVAL="1000",
        MAX_HEARTBEAT_AGE=str(MAX_HEARTBEAT_AGE_MS), HEALTH_CHECK_INTERVAL="2000",
    )  # fmt: skip
    deployment.run("start", "--multiprocess", "--sandbox")
    for index in (LINKED, UNLINKED):
        deployment.add_web_bot(index)
    deployment.link(LINKED)
    deployment.wait_for("SCAN_QR_CODE", UNLINKED, seconds=RECOVERY_SECONDS)
    yield deployment
    deployment.close()


def renderer(deployment, index):
    """The pid of the process of its page."""
    browser = deployment.part("browser", index)
    found = [pid for pid in descendants(browser or 0) if "--type=renderer" in " ".join(command_of(pid))]
    return max(found, default=None)


def part(deployment, name, index):
    return renderer(deployment, index) if name == "renderer" else deployment.part(name, index)


@contextlib.contextmanager
def stopped(deployment, name, index):
    """A part that does nothing any more, unless it is killed."""
    wait_until(lambda: part(deployment, name, index), RECOVERY_SECONDS)
    pid = part(deployment, name, index)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def say(deployment, text):
    """Have a text accepted, and wait until it has arrived, once."""
    answer = requests.post(
        f"{deployment.api}/api/v2/messages/text/{COMPANY}/60180000001",
        json={"message": text, "phoneIndex": LINKED}, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text

    def found():
        return [each for each in deployment.arrived(deployment.numbers[LINKED]) if each["body"] == text]

    wait_until(found, RECOVERY_SECONDS, deployment.logs)
    assert [each["arrivals"] for each in found()] == [1]


def hung(deployment):
    """Hangs that were noted, by severity and reason."""
    query = "SELECT severity, event_data ->> 'reason' FROM process_events WHERE event_type = 'process_hung' ORDER BY id"
    return deployment.rows(query)


def is_unharmed(deployment):
    """Whether nothing was counted against a number."""
    blocks = deployment.rows("SELECT reason FROM wa_block")
    return blocks == [] and deployment.rows("SELECT DISTINCT failed_starts FROM wa_session") == [(0,)]


@pytest.mark.parametrize("name", ["driver", "browser", "renderer"])
def test_a_hanging_browser_or_driver_is_replaced_and_messages_are_sent(deployment, name):
    hangs = len(hung(deployment))
    with stopped(deployment, name, LINKED) as pid:
        say(deployment, f"while the {name} is stopped")
        wait_until(lambda: not alive(pid), RECOVERY_SECONDS, deployment.logs)  # texts do not need the driver
    if name != "driver":  # which is replaced without the session's noticing
        query = "SELECT 1 FROM process_events WHERE event_data #>> '{payload,reason}' LIKE '%not answer%'"
        wait_until(lambda: deployment.rows(query) or len(hung(deployment)) > hangs, what=deployment.logs)
    deployment.wait_for("WORKING", LINKED, seconds=RECOVERY_SECONDS)
    assert is_unharmed(deployment)


def test_a_hanging_session_is_killed_and_restarted_with_its_reason_recorded(deployment):
    with stopped(deployment, "session", LINKED) as pid:
        wait_until(lambda: not alive(pid), RECOVERY_SECONDS, deployment.logs)
    say(deployment, "after the session was stopped")
    wait_until(lambda: hung(deployment))
    severity, reason = hung(deployment)[-1]
    assert severity == "error"
    assert "no heartbeat for" in reason
    row = deployment.status()[deployment.program(LINKED)]
    assert row["restarts"] >= 1
    assert re.search(r"hung (once|\d+ times) within an hour", row["reason"])
    assert is_unharmed(deployment)


def test_a_session_that_hangs_during_its_start_is_restarted(deployment):
    before = len(hung(deployment))
    deployment.kill_part("session", LINKED)
    with stopped(deployment, "session", LINKED) as pid:
        wait_until(lambda: not alive(pid), RECOVERY_SECONDS, deployment.logs)
    deployment.wait_for("WORKING", LINKED, seconds=RECOVERY_SECONDS)
    say(deployment, "after a start that was stopped")
    assert len(hung(deployment)) > before
    assert is_unharmed(deployment)


@pytest.mark.parametrize("name", ["browser", "session"])
def test_a_session_that_hangs_while_it_shows_a_qr_code_shows_another_one(deployment, name):
    def shown():
        answer = deployment.sessions_call("GET", f"{COMPANY}/{UNLINKED}/qr")
        return answer.ok and answer.json()["qr"]

    wait_until(shown, RECOVERY_SECONDS)
    with stopped(deployment, name, UNLINKED) as pid:
        former = shown()
        wait_until(lambda: not alive(pid), RECOVERY_SECONDS, deployment.logs)
    wait_until(lambda: shown() not in (False, former), RECOVERY_SECONDS, deployment.logs)
    assert is_unharmed(deployment)


def test_sessions_survive_a_long_outage_of_the_database(deployment):
    before = deployment.part("session", LINKED)
    hangs = len(hung(deployment))
    deployment.run("stop", "postgres")
    time.sleep(3 * MAX_HEARTBEAT_AGE_MS / 1000)
    deployment.run("start", "--multiprocess", "--sandbox")
    say(deployment, "after the outage of the database")
    time.sleep(3 * MAX_HEARTBEAT_AGE_MS / 1000)  # the manager and the guard have looked several times
    assert deployment.part("session", LINKED) == before
    assert len(hung(deployment)) == hangs
    assert is_unharmed(deployment)


@contextlib.contextmanager
def busy_machine(deployment):
    """Processes that compute, each in a session of its own, so that each has a full share of the processor.

    They and the deployment have one processor together; tests that run beside this one have the others.
    """
    allowed = os.sched_getaffinity(0)
    code = f"import time\nend = time.monotonic() + {BUSY_SECONDS}\nwhile time.monotonic() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(BUSY_PROCESSES)]
    supervisor = int((deployment.settings.run_dir / "supervisord.pid").read_text())
    try:
        confine({supervisor, *descendants(supervisor), *(each.pid for each in busy)}, {max(allowed)})
        yield lambda: all(each.poll() is None for each in busy)
    finally:
        for each in busy:
            each.kill()
            each.wait()
        confine({supervisor, *descendants(supervisor)}, allowed)


def confine(pids, processors):
    """Let these processes, and those that they start from now on, run on these processors alone."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), processors)


def test_on_a_busy_machine_a_session_comes_up_and_stays_up(deployment):
    hangs = len(hung(deployment))
    before, since = deployment.part("session", LINKED), deployment.session(LINKED)["changedAt"]

    def works_anew():
        found = deployment.session(LINKED)  # until the new process says otherwise, what the old one said
        return found.get("status") == "WORKING" and found["changedAt"] != since

    with busy_machine(deployment) as still_busy:
        deployment.kill_part("session", LINKED)
        wait_until(lambda: deployment.part("session", LINKED) not in (None, before), RECOVERY_SECONDS)
        started = deployment.part("session", LINKED)
        wait_until(works_anew, RECOVERY_SECONDS, deployment.logs)
        assert still_busy()
        time.sleep(4 * MAX_HEARTBEAT_AGE_MS / 1000)
        assert deployment.session(LINKED)["status"] == "WORKING"
        assert deployment.part("session", LINKED) == started
        assert len(hung(deployment)) == hangs
    assert is_unharmed(deployment)
