"""A rollback to the old single process, from any state, and the way forward again."""

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from bisnesctl.errors import BisnesError
from bisnesctl.processes.supervisor import Supervisor
from tests.support.deployment import Deployment, alive
from tests.support.documents import ROOT
from tests.support.processes.servers import Postgres, settings_in
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path, META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000")
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.add_demo_bot()
    yield deployment
    deployment.close()


def legacy_health(deployment):
    return requests.get(f"http://127.0.0.1:{deployment.settings.port}/health/ready", timeout=HANG_SECONDS).status_code


def is_healthy(deployment):
    """Whether the old process answers that it is ready."""
    with contextlib.suppress(requests.RequestException):
        return legacy_health(deployment) == 200
    return False


@pytest.fixture
def roll_back(capsys):
    """Rolls back, and prints how long it took until the old process was healthy, and until the command ended."""

    def run(deployment, situation):
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            command = pool.submit(deployment.run, "rollback")
            wait_until(lambda: is_healthy(deployment), 120, deployment.logs)
            healthy = time.monotonic() - began
            done = command.result()
        with capsys.disabled():
            print(f"\nrollback {situation}: healthy after {healthy:.1f} s, done after {time.monotonic() - began:.1f} s")
        return done

    return run


def send_to_legacy(deployment, text):
    return requests.post(
        f"http://127.0.0.1:{deployment.settings.port}/api/v2/messages/text/0100/60123456789",
        json={"message": text}, headers={"X-Api-Key": deployment.key}, params={"wait": 30}, timeout=HANG_SECONDS,
    ).status_code  # fmt: skip


def test_the_old_process_delivers_waiting_messages_and_the_rollback_can_be_undone(deployment, roll_back):
    deployment.run("stop", "meta-worker")
    for number in range(20):
        assert deployment.send("0100", f"601200000{number:02}", f"waiting {number}").status_code == 202
    before = [
        row["pid"] for name, row in deployment.status().items() if name.startswith(("api", "meta")) and row["pid"]
    ]
    rolled_back = roll_back(deployment, "from the full system")
    assert "bisnesctl start --multiprocess" in rolled_back.stdout + rolled_back.stderr
    assert legacy_health(deployment) == 200
    assert not any(map(alive, before))
    wait_until(lambda: deployment.statuses() == {"read": 20}, what=lambda: str(deployment.statuses()))
    assert sorted(message["text"] for message in deployment.received()) == sorted(f"waiting {n}" for n in range(20))
    assert deployment.run("rollback").returncode == 0
    assert send_to_legacy(deployment, "through the old port") == 200

    deployment.run("start", "--multiprocess", "--sandbox")
    assert deployment.send("0100", "60123456789", "and back", params={"wait": 30}).status_code == 200
    assert deployment.status().get("legacy", {}).get("pid") is None


def keep_killing(deployment, finished):
    """SIGKILL both API processes as soon as they are up again."""
    while not finished.wait(0.5):
        with contextlib.suppress(BisnesError):
            for name in Supervisor(deployment.settings.run_dir).processes():
                if name.startswith("api"):
                    deployment.kill(name)


def test_a_rollback_works_while_the_api_crashes_and_redis_is_down(deployment, roll_back):
    deployment.run("stop", "redis")
    finished = threading.Event()
    killer = threading.Thread(target=keep_killing, args=(deployment, finished))
    killer.start()
    try:
        roll_back(deployment, "without Redis, with an API that keeps crashing")
    finally:
        finished.set()
        killer.join()
    assert legacy_health(deployment) == 200
    assert send_to_legacy(deployment, "without Redis") == 200


def test_the_old_process_can_be_started_from_nothing(deployment):
    deployment.run("stop")
    deployment.run("start", "--legacy", "--sandbox")
    assert legacy_health(deployment) == 200
    assert send_to_legacy(deployment, "alone") == 200


def owners(deployment):
    return dict(deployment.rows("SELECT owner, count(*) FROM bot_pace GROUP BY 1"))


def test_every_bot_is_handed_over_and_the_steps_can_be_shown_before(deployment):
    shown = deployment.run("rollback", "--dry-run").stdout
    assert "bots are handed over to it" in shown
    assert "api-0" in shown
    assert deployment.rows("SELECT owner FROM bot_pace") == [(None,)]
    rolled_back = deployment.run("rollback")
    assert owners(deployment) == {"legacy": 1}
    assert "no message waits" in rolled_back.stderr
    assert "handed_over_to_legacy" in deployment.run("audit").stdout
    deployment.run("start", "--multiprocess", "--sandbox")
    assert owners(deployment) == {"multiprocess": 1}


def test_a_rollback_that_was_killed_is_continued_by_itself(deployment):
    command = [sys.executable, "-m", "bisnesctl", "rollback"]
    tool = subprocess.Popen(
        command, cwd=deployment.folder, env=deployment.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until((deployment.settings.run_dir / "rollback.json").exists)
    tool.kill()
    tool.wait()
    wait_until(lambda: owners(deployment) == {"legacy": 1}, 120, deployment.logs)
    wait_until(lambda: not (deployment.settings.run_dir / "rollback.json").exists(), 60, deployment.logs)
    assert legacy_health(deployment) == 200
    assert not [name for name, row in deployment.status().items() if name.startswith(("api", "meta")) and row["pid"]]


def test_a_rollback_is_undone_unless_it_is_confirmed(deployment):
    deployment.run("rollback", "--confirm", "1")
    wait_until(lambda: owners(deployment) == {"multiprocess": 1}, 120, deployment.logs)
    wait_until(lambda: deployment.status().get("legacy", {}).get("pid") is None, 60, deployment.logs)
    wait_until(lambda: not (deployment.settings.run_dir / "rollback.json").exists(), 60, deployment.logs)
    assert "no rollback waits" in deployment.run("rollback", "confirm").stdout
    deployment.run("rollback", "--confirm", "3600")
    assert "is confirmed" in deployment.run("rollback", "confirm").stdout
    assert not (deployment.settings.run_dir / "rollback.json").exists()
    assert owners(deployment) == {"legacy": 1}


def test_a_rollback_works_with_a_syntax_error_in_the_services(tmp_path, roll_back):
    code = tmp_path / "code"
    shutil.copytree(ROOT / "services", code / "services", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    deployment = Deployment(tmp_path / "home", HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false", API_INSTANCES="1")
    deployment.environment["PYTHONPATH"] = str(code)
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot()
        (code / "services" / "api" / "asgi.py").write_text("this is no Python\n")
        rolled_back = roll_back(deployment, "with a syntax error in the services")
        assert "the copy that ran last" in rolled_back.stderr
        assert legacy_health(deployment) == 200
        assert send_to_legacy(deployment, "with broken code on the disk") == 200
    finally:
        deployment.close()


def test_a_rollback_works_without_postgresql_and_hands_the_bots_over_later(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "home").mkdir()
    server = Postgres(settings_in(tmp_path / "server", REDIS_HOST="unused"))
    server.start()
    server.run("CREATE DATABASE own")
    deployment = Deployment(
        tmp_path / "home", DATABASE_URL=server.dsn("own"), HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false",
        API_INSTANCES="1",
    )  # fmt: skip
    try:
        deployment.run("migrate")
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot()
        server.stop()
        rolled_back = deployment.run("rollback")
        assert "no bot was handed over" in rolled_back.stderr
        server.start()
        wait_until(lambda: owners(deployment) == {"legacy": 1}, 120, deployment.logs)
        wait_until(lambda: legacy_health(deployment) == 200, 60, deployment.logs)
        assert send_to_legacy(deployment, "PostgreSQL is back") == 200
    finally:
        deployment.close()
        server.remove()


#: A former server: it answers at its port that it is healthy, and knows nothing of the outbox.
FORMER_SERVER = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""


def test_a_rollback_to_the_former_server_strands_no_message_unless_it_is_forced(tmp_path):
    (tmp_path / "former.py").write_text(FORMER_SERVER)
    (tmp_path / "home").mkdir()
    command = f"{sys.executable} {tmp_path / 'former.py'}"
    deployment = Deployment(
        tmp_path / "home", LEGACY_COMMAND=command, HEARTBEAT_INTERVAL="1000", ENABLE_WWEBJS="false", API_INSTANCES="1"
    )
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot()
        deployment.run("stop", "meta-worker")
        assert deployment.send("0100", "60123456789", "waits").status_code == 202
        refused = deployment.run("rollback", check=False)
        assert (refused.returncode, "1 messages wait" in refused.stderr) == (6, True)
        assert deployment.rows("SELECT owner FROM bot_pace") == [(None,)]
        deployment.run("rollback", "--force")
        assert owners(deployment) == {"legacy": 1}
        health = f"http://127.0.0.1:{deployment.settings.port}/health"
        assert requests.get(health, timeout=HANG_SECONDS).status_code == 200
        assert deployment.statuses() == {"queued": 1}
        deployment.run("start", "--multiprocess", "--sandbox")
        wait_until(lambda: deployment.statuses() == {"read": 1}, what=deployment.logs)
    finally:
        deployment.close()
