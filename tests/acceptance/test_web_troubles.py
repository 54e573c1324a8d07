"""WhatsApp Web sessions recover from the faults of their pages."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.alert_watch import AlertWatch
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_deployment import COMPANY, SESSION_SECONDS, WebDeployment

pytestmark = pytest.mark.timeout(1500)

#: How long a recovery may take: that a page hangs is noticed late, and on a busy machine later.
RECOVERY_SECONDS = 400

#: The memory limit of a session. A session with the simulator's page uses about 400 MB.
MEMORY_LIMIT_MB = 700

# Phone indexes: a bot that survives everything, one that is banned, and one that is logged out.
TOUGH = 1
BANNED = 2
LOGGED_OUT = 3
#: Troubles after which a page is loaded again.
RENEWALS = ("update", "reload")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = WebDeployment(
        tmp_path_factory.mktemp("web"), API_INSTANCES="1", META_INSTANCES="1", HEARTBEAT_INTERVAL="1000",
        SESSION_MEMORY_MB=str(MEMORY_LIMIT_MB), WWEBJS_TAKEOVERS="2",
    )  # fmt: skip
    deployment.run("start", "--multiprocess", "--sandbox")
    for index in (TOUGH, BANNED, LOGGED_OUT):
        deployment.add_web_bot(index)
    for index in (TOUGH, BANNED, LOGGED_OUT):
        deployment.link(index)
    yield deployment
    deployment.close()


@pytest.fixture
def tell(deployment):
    """Does something to the page of a bot."""

    def do(trouble, index=TOUGH, **fields):
        answer = deployment.wa_post(trouble, number=deployment.numbers[index], **fields)
        assert answer.ok, answer.text

    return do


@pytest.fixture
def watch(deployment, tmp_path, monkeypatch):
    """Watches the alerts of the deployment."""
    return AlertWatch(deployment, tmp_path / "alerts.jsonl", monkeypatch)


def send(deployment, text, index=TOUGH):
    """Have a text accepted."""
    answer = requests.post(
        f"{deployment.api}/api/v2/messages/text/{COMPANY}/60180000001",
        json={"message": text, "phoneIndex": index}, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text


def await_text(deployment, text, index=TOUGH):
    """Wait until it has arrived, once."""

    def found():
        return [each for each in deployment.arrived(deployment.numbers[index]) if each["body"] == text]

    wait_until(found, RECOVERY_SECONDS, lambda: f"{deployment.session(index)}\n{deployment.logs()}")
    assert [each["arrivals"] for each in found()] == [1]


def test_a_hanging_crashed_or_outdated_page_recovers_and_its_messages_are_sent(deployment, tell):
    def recovers(index, *troubles):
        for trouble in troubles:
            tell(trouble, index)
            for count in range(3):
                send(deployment, f"{trouble} {count}", index)
            for count in range(3):
                await_text(deployment, f"{trouble} {count}", index)
            deployment.wait_for("WORKING", index)

    with ThreadPoolExecutor() as pool:  # at once, since the end of a page that hangs is noticed late
        ends = [pool.submit(recovers, *each) for each in ((TOUGH, "hang"), (BANNED, "crash"), (LOGGED_OUT, *RENEWALS))]
        for end in ends:
            end.result()


def test_the_browser_of_a_leaking_page_is_restarted_without_losing_a_message(deployment, tell):
    before = deployment.part("browser", TOUGH)
    tell("leak", mb_per_second=100, limit_mb=600)
    texts = [f"leak {count}" for count in range(20)]
    for text in texts:
        send(deployment, text)
    wait_until(lambda: deployment.part("browser", TOUGH) not in (None, before), SESSION_SECONDS, deployment.logs)
    for text in texts:
        await_text(deployment, text)
    deployment.wait_for("WORKING", TOUGH)


def await_alert(deployment, fired, index):
    """Wait for the alert about a blocked bot, once its process is gone."""
    wait_until(lambda: deployment.program(index) not in deployment.status(), SESSION_SECONDS, deployment.logs)
    fired()


def conflicts(deployment):
    """How often it was recorded that WhatsApp Web was opened elsewhere."""
    query = "SELECT count(*) FROM process_events WHERE event_data #>> '{payload,reason}' LIKE '%another browser'"
    return deployment.rows(query)[0][0]


def test_a_session_opened_elsewhere_is_taken_over_a_few_times_then_stops_with_a_reason(deployment, tell, watch):
    for count in range(2):
        tell("conflict")
        wait_until(lambda: conflicts(deployment) > count, SESSION_SECONDS, deployment.logs)  # noqa: B023 - waited for here
        send(deployment, f"takeover {count}")
        await_text(deployment, f"takeover {count}")
    with watch.expected(f"bot_health[{COMPANY}-{TOUGH}]") as fired:
        tell("conflict")
        deployment.wait_for("FAILED", TOUGH)
        assert "taken over 2 times" in deployment.session(TOUGH)["reason"]
        send(deployment, "kept for later")
        await_alert(deployment, fired, TOUGH)
        deployment.run("bots", "unblock", COMPANY, str(TOUGH))
        await_text(deployment, "kept for later")


def test_a_banned_bot_is_blocked_with_a_reason(deployment, tell):
    tell("ban", BANNED)
    deployment.wait_for("FAILED", BANNED)
    send(deployment, "never", BANNED)
    blocked = deployment.run("bots", "blocked").stdout
    assert "terms of service" in blocked
    assert "terms of service" in deployment.run("health", check=False).stdout
    assert deployment.sessions_call("POST", f"{COMPANY}/{BANNED}/start").json()["code"] == "blocked"
    assert deployment.part("browser", BANNED) is None
    assert deployment.rows("SELECT status FROM outbox WHERE payload ->> 'message' = 'never'") == [("queued",)]


def test_a_logged_out_bot_is_blocked_until_it_is_linked_again(deployment, tell, watch):
    with watch.expected(f"bot_health[{COMPANY}-{LOGGED_OUT}]") as fired:
        tell("logout", LOGGED_OUT)
        deployment.wait_for("FAILED", LOGGED_OUT)
        assert "unlinked" in deployment.session(LOGGED_OUT)["reason"]
        profiles = [path.name for path in deployment.settings.profile_dir.iterdir() if path.is_dir()]
        assert any(name.startswith(deployment.program(LOGGED_OUT) + ".") for name in profiles), profiles
        send(deployment, "waits for the link", LOGGED_OUT)
        await_alert(deployment, fired, LOGGED_OUT)
        deployment.run("bots", "unblock", COMPANY, str(LOGGED_OUT))
        deployment.link(LOGGED_OUT)
        await_text(deployment, "waits for the link", LOGGED_OUT)


def pair(deployment, number):
    """Link a phone with this number to the bot that shows a QR code, by a code that is typed in."""
    deployment.wait_for("SCAN_QR_CODE", LOGGED_OUT)
    path = f"{COMPANY}/{LOGGED_OUT}/pairing-code"
    made = deployment.sessions_call("POST", path, json={"phoneNumber": number})
    assert made.status_code == 200, made.text
    assert deployment.wa_post("scan", code=made.json()["code"]).ok


def await_linked(deployment, number):
    """Wait until the bot sends from this number."""
    deployment.wait_for("WORKING", LOGGED_OUT)
    assert deployment.session(LOGGED_OUT)["number"] == number
    deployment.numbers[LOGGED_OUT] = number


def await_nothing_waits(deployment):
    """Wait until the outcome of all messages of the bot is stored, which is later than their arrival."""
    query = f"""SELECT 1 FROM lane JOIN phone_configs c ON c.id = bot_id
        WHERE company_id = '{COMPANY}' AND phone_index = {LOGGED_OUT} AND pending > 0"""
    wait_until(lambda: not deployment.rows(query), SESSION_SECONDS, deployment.logs)


def test_an_operator_unlinks_a_phone_and_links_another_one_by_a_code(deployment):
    await_nothing_waits(deployment)
    assert deployment.sessions_call("POST", f"{COMPANY}/{LOGGED_OUT}/logout").status_code == 202
    pair(deployment, "60170009999")
    await_linked(deployment, "60170009999")


def test_another_phone_is_refused_while_messages_wait_until_an_operator_accepts_its_number(deployment, tell):
    bound, stranger = deployment.numbers[LOGGED_OUT], "60170008888"
    tell("logout", LOGGED_OUT)
    deployment.wait_for("FAILED", LOGGED_OUT)
    send(deployment, "waits for an operator", LOGGED_OUT)
    deployment.run("bots", "unblock", COMPANY, str(LOGGED_OUT))
    pair(deployment, stranger)
    deployment.wait_for("FAILED", LOGGED_OUT)
    session = deployment.session(LOGGED_OUT)
    assert session["block"]["kind"] == "wrong_number"
    assert all(word in session["reason"] for word in (f"+{bound}", f"+{stranger}", "--new-number")), session["reason"]
    assert deployment.arrived(stranger) == []
    deployment.run("bots", "unblock", COMPANY, str(LOGGED_OUT), "--new-number")
    pair(deployment, stranger)
    await_linked(deployment, stranger)
    await_text(deployment, "waits for an operator", LOGGED_OUT)


def test_a_browser_restarts_on_request_and_its_page_passes_the_check(deployment):
    before = deployment.part("browser", TOUGH)
    assert deployment.sessions_call("POST", f"{COMPANY}/{TOUGH}/restart").status_code == 202
    wait_until(lambda: deployment.part("browser", TOUGH) not in (None, before), SESSION_SECONDS, deployment.logs)
    deployment.wait_for("WORKING", TOUGH)
    examined = deployment.run("doctor", "--live", f"{COMPANY}/{TOUGH}")
    assert "required functions are present" in examined.stdout


def test_the_old_table_has_the_qr_code_for_old_front_ends(deployment):
    deployment.sessions_call("POST", f"{COMPANY}/{LOGGED_OUT}/logout")
    deployment.wait_for("SCAN_QR_CODE", LOGGED_OUT)
    query = f"""SELECT metadata ->> 'qrCode', status FROM phone_status
        WHERE company_id = '{COMPANY}' AND phone_index = '{LOGGED_OUT}'"""
    wait_until(lambda: deployment.rows(query)[0][0])
    assert deployment.rows(query)[0][1] == "qr"
