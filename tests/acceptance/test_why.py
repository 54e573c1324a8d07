"""`bisnesctl why` names the cause of staged troubles, and what to type."""

import contextlib
import json
import os
import signal
import threading

import psutil
import pytest

from tests.support.deployment import Deployment
from tests.support.sandbox import eventually

COMPANY, CHAT = "0128", "60123456789"
BOT = f"{COMPANY}-0"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(
        tmp_path_factory.mktemp("why"), API_INSTANCES="1", META_INSTANCES="1", ENABLE_WWEBJS="false",
        HEARTBEAT_INTERVAL="1000", MAX_HEARTBEAT_AGE="15000",
    )  # fmt: skip
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot(COMPANY)
        log = deployment.settings.log_dir / "meta-worker-1.log"
        eventually(lambda: "bot.check_passed" in log.read_text())  # which would end the hold of the first trouble
        yield deployment
    finally:
        deployment.close()


def why(deployment, *names):
    """The diagnoses by target."""
    done = deployment.run("why", *names, "--json")
    return {each["target"]: each for each in json.loads(done.stdout)}


def blamed(deployment, name, about):
    """The diagnosis of a target, once its cause is this part; None before."""
    found = why(deployment, name)[name]
    return found if found["cause"] and found["cause"]["about"] == about else None


def cause(deployment, name, about):
    """The diagnosis of a target, once its cause is this part."""
    return eventually(lambda: blamed(deployment, name, about))


def prevented(deployment, name, about):
    """The diagnosis of a target, once this part prevents it; None before."""
    found = blamed(deployment, name, about)
    return found if found and found["cause"]["state"] == "blocks" else None


def accepted(deployment, text="hello", chat=CHAT):
    answer = deployment.send(COMPANY, chat, text)
    assert answer.status_code == 202, answer.text
    return answer.json()["messageId"]


def status_of(deployment, message):
    [(status,)] = deployment.rows(f"SELECT status::text FROM outbox WHERE message_id = '{message}'")
    return status


@contextlib.contextmanager
def frozen(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_nothing_prevents_what_works(deployment):
    message = accepted(deployment)
    eventually(lambda: status_of(deployment, message) in ("sent", "delivered", "read"))
    found = why(deployment, "api-0", BOT, message)
    assert [each["cause"] for each in found.values()] == [None] * 3
    assert "it was sent" in found[message]["links"][-1]["text"]
    assert "everything is as it is wanted" in deployment.run("why").stderr


def test_an_expired_token(deployment):
    deployment.behave(times=1, error_code=190, match="expired")
    message = accepted(deployment, "expired")
    found = cause(deployment, message, "number")
    assert "190" in found["cause"]["text"]
    assert found["type"] == [f"bisnesctl bots add --company {COMPANY} --phone 0 --token-stdin"]
    assert why(deployment)[BOT]["cause"]["about"] == "number"
    deployment.add_demo_bot(COMPANY)
    eventually(lambda: status_of(deployment, message) in ("sent", "delivered", "read"))
    assert why(deployment, BOT)[BOT]["cause"] is None


def test_a_chat_behind_a_message_that_is_retried(deployment):
    deployment.behave(times=3, error_code=131056, match="first")  # retried after 1, 4 and 16 seconds
    first, second = accepted(deployment, "first", "60100000001"), accepted(deployment, "second", "60100000001")

    def blamed_chat():
        if status_of(deployment, second) != "queued":
            pytest.fail("the second message left too early to be seen")
        return blamed(deployment, second, "chat")

    found = eventually(blamed_chat)
    assert first in found["cause"]["text"]
    assert found["type"] == [f"bisnesctl why {first}"]

    def served():
        deployment.rows("UPDATE lane SET due = now() WHERE chat_id = '60100000001' AND claim IS NULL")
        return status_of(deployment, second) in ("sent", "delivered", "read")

    eventually(served)


def test_a_message_that_failed(deployment):
    deployment.behave(times=1, error_code=131026, match="nobody")
    message = accepted(deployment, "nobody", "60100000002")
    found = cause(deployment, message, "message")
    assert "131026" in found["cause"]["text"]
    assert found["actual"].startswith("failed")


def test_a_number_that_is_slowed_by_its_rate(deployment):
    deployment.run("bots", "add", "--company", COMPANY, "--phone", "0", "--rate", "0.02")
    for number in range(3):
        last = accepted(deployment, "slow", f"6010000010{number}")
    try:
        found = cause(deployment, last, "rate")
        assert "its next message leaves in" in found["cause"]["next"]
    finally:
        deployment.run("bots", "add", "--company", COMPANY, "--phone", "0", "--rate", "default")
        deployment.rows("UPDATE bot_pace SET free_at = now()")
    eventually(lambda: status_of(deployment, last) in ("sent", "delivered", "read"))


def test_a_slow_provider(deployment):
    deployment.behave(times=20, delay_ms=8000, match="slowly")  # many, against the quick answers of the last minute
    for number in range(20):
        accepted(deployment, "slowly", f"6010000020{number}")
    found = cause(deployment, BOT, "provider")
    assert "its answers take" in found["cause"]["text"]
    assert found["cause"]["state"] == "warns"


def test_a_paused_number(deployment):
    deployment.run("queue", "pause", f"{COMPANY}/0", "--reason", "the customer asked")
    message = accepted(deployment, "paused", "60100000004")
    found = why(deployment, message)[message]
    assert (found["cause"]["about"], found["cause"]["state"]) == ("pause", "delays")
    assert "the customer asked" in found["cause"]["text"]
    assert found["type"] == [f"bisnesctl queue resume {COMPANY}/0"]
    deployment.run("queue", "resume", f"{COMPANY}/0")
    eventually(lambda: status_of(deployment, message) in ("sent", "delivered", "read"))


def test_a_process_that_an_operator_stopped(deployment):
    deployment.run("stop", "meta-worker-1")
    found = why(deployment, "meta-worker-1")["meta-worker-1"]
    assert found["cause"]["state"] == "delays"
    assert found["wanted"].startswith("it stays stopped (by ")
    message = accepted(deployment, "stopped", "60100000003")
    assert why(deployment, message)[message]["cause"]["about"] == "meta-worker-1"
    assert found["type"] == ["bisnesctl start meta-worker-1"]
    deployment.run("restart", "meta-worker-1")
    eventually(lambda: status_of(deployment, message) in ("sent", "delivered", "read"))


@contextlib.contextmanager
def crashing(deployment, name):
    """Kill the process of this instance as often as it is started."""
    supervisor = psutil.Process(json.loads(deployment.run("status", "--json").stdout)["supervisor_pid"])
    ended = threading.Event()

    def kill():
        while not ended.wait(0.1):
            for each in supervisor.children():
                with contextlib.suppress(psutil.Error):
                    if each.environ().get("BISNES_INSTANCE") == name:
                        each.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_crash_loop(deployment):
    def blocked():
        found = prevented(deployment, "meta-worker-1", "meta-worker-1")
        return found if found and "it ended by itself" in found["cause"]["text"] else None

    with crashing(deployment, "meta-worker-1"):
        found = eventually(blocked)
        assert "killed" in found["cause"]["text"]
        assert "bisnesctl logs meta-worker-1 --lines 30" in found["type"][0]
    deployment.run("restart", "meta-worker-1")
    eventually(lambda: why(deployment, "meta-worker-1")["meta-worker-1"]["cause"] is None)


def test_the_guard_is_dead(deployment):
    with frozen(deployment.pid("guard")):
        found = cause(deployment, "guard", "guard")
        assert "processes that end are not restarted" in found["cause"]["text"]
        assert eventually(lambda: blamed(deployment, "api-0", "guard"))["cause"]["state"] == "warns"
        deployment.kill("api-0")
        found = eventually(lambda: prevented(deployment, "api-0", "guard"))
        assert found["type"][0] == "bisnesctl restart guard"
    eventually(lambda: why(deployment, "api-0")["api-0"]["cause"] is None)


def test_postgresql_is_away(deployment):
    with frozen(deployment.pid("postgres")):
        found = cause(deployment, BOT, "PostgreSQL")
        assert found["unseen"] == ["number"]
        assert "bisnesctl logs postgres" in found["type"][0]
        assert why(deployment, "api-0")["api-0"]["cause"]["about"] == "PostgreSQL"
    eventually(lambda: why(deployment, BOT)[BOT]["cause"] is None)


def test_redis_is_away(deployment):
    def warned():
        links = {each["about"]: each for each in why(deployment, BOT)[BOT]["links"]}
        return links["Redis"] if links["Redis"]["state"] == "warns" else None

    with frozen(deployment.pid("redis")):
        assert "messages still leave" in eventually(warned)["text"]
        assert "bisnesctl logs redis" in cause(deployment, "redis", "redis")["type"][0]
    eventually(lambda: why(deployment, "redis")["redis"]["cause"] is None)


def test_a_wrong_setting(deployment):
    env_file = deployment.folder / ".env"
    before = env_file.read_text()
    env_file.write_text(f"{before}META_ATTEMPTS=many\n")
    try:
        found = cause(deployment, "api-0", "settings")
        assert "META_ATTEMPTS" in found["cause"]["text"]
        assert any("META_ATTEMPTS" in link["text"] for each in why(deployment).values() for link in each["links"])
    finally:
        env_file.write_text(before)


@pytest.mark.parametrize(
    ("block", "command"),
    [("logged_out", "bisnesctl bots unblock"), ("failed_starts", "bisnesctl bots unblock")],
)
def test_a_blocked_session(deployment, block, command):
    deployment.rows("INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('0900', 1, 'wwebjs')"
                    " ON CONFLICT DO NOTHING")  # fmt: skip
    deployment.rows(
        "INSERT INTO wa_block (bot_id, kind, reason, until) SELECT id, "
        f"'{block}', 'it ended for a reason', 'infinity' FROM phone_configs WHERE company_id = '0900'"
        " ON CONFLICT (bot_id) DO UPDATE SET kind = excluded.kind"
    )
    found = why(deployment, "0900-1")["0900-1"]
    assert found["cause"]["about"] == "session"
    assert "it ended for a reason" in found["cause"]["text"]
    assert found["type"][0] == f"{command} 0900 1"


def test_a_channel_that_is_off(deployment):
    deployment.run("bots", "add", "--company", "0901", "--phone", "0", "--type", "wwebjs")
    found = why(deployment, "0901-0")["0901-0"]
    assert found["cause"]["about"] == "channel"
    assert "ENABLE_WWEBJS=false in " in found["cause"]["text"]
    assert found["type"] == ["set it to true", "bisnesctl start --multiprocess --sandbox"]
    done = deployment.run("bots", "link", "0901", "0", check=False)
    assert (done.returncode, "ENABLE_WWEBJS=false in " in done.stderr) == (6, True), done.stderr


def test_names_that_mean_nothing(deployment):
    for name, text in (
        ("0128-77", "there is no bot 0128-77"),
        ("api-7", "there is no instance api-7: there is only api-0"),
        ("01a21810-359a-77fc-a341-6aaed94b3d4b", "there is no message"),
        ("nonsense", "unknown name nonsense"),
    ):
        done = deployment.run("why", name, check=False)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_supervisord_is_dead(deployment):
    os.kill(json.loads(deployment.run("status", "--json").stdout)["supervisor_pid"], signal.SIGKILL)
    found = cause(deployment, "api-0", "supervisord")
    assert "nobody stopped it" in found["cause"]["text"]
    assert found["type"][0].startswith("bisnesctl start --multiprocess")
    found = why(deployment, BOT)[BOT]
    assert found["cause"]["about"] == "supervisord"
    assert "number" in found["unseen"]
    assert list(why(deployment)) == ["supervisord"]
    deployment.run("start", "--multiprocess", "--sandbox")
    deployment.run("stop")
    found = why(deployment, "supervisord")["supervisord"]
    assert (found["cause"]["state"], found["type"]) == ("delays", ["bisnesctl start --multiprocess --sandbox"])
