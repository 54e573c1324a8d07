"""Events reach the customers' webhooks: at least once and in order, regardless of other receivers."""

import threading
from uuid import UUID

import pytest
from uuid_utils import uuid7

from bisnesctl import __version__
from bisnesctl.encryption import encrypt
from bisnesctl.host import process_times
from services.database.connection import Database
from services.events import sender as sending
from services.events import store, webhooks
from services.events.sender import INTERNAL_ATTEMPTS
from services.events.store import Result
from tests.support.api import settings_for
from tests.support.outbox import execute
from tests.support.remote.customer import SECRET, Customer, Senders, raise_events
from tests.support.sandbox import eventually

COMPANY, CHAT = "0128", "60123456789"
CHATS = tuple(f"6012345678{number}" for number in range(8))


@pytest.fixture
def settings(database, tmp_path):
    return settings_for(database, tmp_path, ALLOWED_NETWORKS="127.0.0.0/8", WEBHOOK_TIMEOUT_MS="10000")


@pytest.fixture
def pool(settings):
    pool = Database(settings.database_dsn, 4)
    yield pool
    pool.close()


@pytest.fixture
def connection(pool):
    connection = pool.connect(by_key=False)
    yield connection
    connection.close()


@pytest.fixture
def senders(settings, pool):
    senders = Senders(settings, pool)
    yield senders
    senders.close()


@pytest.fixture
def hasty_senders(settings, pool):
    """Those that wait for an answer for two seconds."""
    senders = Senders(settings.copy_with(webhook_timeout_ms=2000), pool)
    yield senders
    senders.close()


@pytest.fixture
def customers():
    """Makes receivers."""
    made = []

    def make(answer=lambda call: 200):
        made.append(Customer(answer))
        return made[-1]

    yield make
    for customer in made:
        customer.close()


def register(connection, url, events=("*",), company=COMPANY, key="0" * 64):
    webhook_id = str(uuid7())
    secret = encrypt(key, SECRET, webhooks.secret_row(webhook_id))
    made = webhooks.register(connection, webhook_id, company, url, events, secret)
    return made["id"]


def delivery(connection, webhook, number=1):
    """Status, attempts, HTTP status and error of the delivery of the company's event with this number."""
    [row] = execute(
        connection,
        "SELECT status, attempts, response_status, error FROM webhook_delivery WHERE webhook_id = %s AND seq = %s",
        (webhook, number),
    )
    return row


def waiting(connection):
    """Deliveries that are pending, and what the lanes count of them."""
    counted = "SELECT (SELECT count(*) FROM webhook_delivery WHERE status = 'pending'), sum(pending) FROM webhook_lane"
    [(pending, in_lanes)] = execute(connection, counted)
    return pending, in_lanes


def hurry(connection):
    """End every pause."""
    execute(connection, "UPDATE webhook SET paused_until = '-infinity'")
    execute(connection, "UPDATE webhook_lane SET due = now() WHERE claim IS NULL")
    execute(connection, "NOTIFY bisnes_events")


def test_an_event_is_delivered_in_the_documented_form(connection, customers, senders):
    customer = customers()
    register(connection, customer.url)
    raise_events(connection, 1)
    senders.start()
    call = eventually(lambda: customer.taken)[0]
    assert call.event.keys() == {"id", "timestamp", "event", "session", "company", "payload"}
    assert call.event["id"].startswith("evt_")
    assert len(call.event["id"]) == 30
    assert (call.event["event"], call.event["session"], call.event["company"]) == ("message", "0128-0", "0128")
    assert call.event["payload"] == {"chatId": CHAT, "number": 1}
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["User-Agent"] == f"bisnesctl/{__version__}"
    assert call.headers["X-Webhook-Hmac-Algorithm"] == "sha512"
    assert call.headers["X-Webhook-Attempt"] == "1"
    assert UUID(call.headers["X-Webhook-Request-Id"])
    assert abs(int(call.headers["X-Webhook-Timestamp"]) - call.event["timestamp"]) < 60_000
    assert call.signed_with(SECRET)
    assert "X-Webhook-Hmac-Previous" not in call.headers


def test_a_webhook_receives_only_the_events_that_it_asked_for_of_its_company(connection, customers, senders):
    acks, others = customers(), customers()
    register(connection, acks.url, ["message.ack"])
    register(connection, others.url, company="0999")
    raise_events(connection, 1)
    raise_events(connection, 2, name="message.ack")
    raise_events(connection, 3, company="0999")
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert acks.told() == {CHAT: [2]}
    assert others.told() == {CHAT: [3]}


def test_events_that_fail_for_a_while_arrive_in_order_under_their_first_id(connection, customers, senders):
    broken = threading.Event()
    broken.set()
    customer = customers(lambda call: 500 if broken.is_set() else 200)
    register(connection, customer.url)
    senders.start()
    for number in range(5):
        raise_events(connection, number, chats=CHATS)
    eventually(lambda: len(customer.calls) >= 3)
    broken.clear()
    eventually(lambda: hurry(connection) or waiting(connection) == (0, 0))
    assert customer.told() == {chat: [0, 1, 2, 3, 4] for chat in CHATS}
    assert {len(ids) for ids in customer.ids().values()} == {1}
    attempts = {call.headers["X-Webhook-Attempt"] for call in customer.calls}
    assert {"1", "2"} <= attempts
    requests = [call.headers["X-Webhook-Request-Id"] for call in customer.calls]
    assert len(set(requests)) == len(requests)


def test_one_chat_that_fails_does_not_hold_back_the_others(connection, customers, senders):
    customer = customers(lambda call: 500 if call.event["payload"]["chatId"] == CHATS[0] else 200)
    register(connection, customer.url)
    senders.start()
    raise_events(connection, 1, 2, 3, chats=CHATS)
    eventually(lambda: waiting(connection) == (3, 3))
    assert customer.told() == {chat: [1, 2, 3] for chat in CHATS[1:]}
    assert {number for chat, number in customer.ids() if chat == CHATS[0]} == {1}


def test_a_receiver_that_hangs_delays_no_other(connection, customers, senders):
    release = threading.Event()
    slow, quick = customers(lambda call: release.wait(60) and 200), customers()
    hanging = register(connection, slow.url)
    register(connection, quick.url)
    senders.start()
    raise_events(connection, *range(10), chats=CHATS)
    eventually(lambda: quick.told() == {chat: list(range(10)) for chat in CHATS})
    assert slow.taken == []
    eventually(lambda: execute(connection, "SELECT failures > 0 FROM webhook WHERE id = %s", (hanging,)) == [(True,)])
    release.set()
    eventually(lambda: hurry(connection) or waiting(connection) == (0, 0))
    assert {chat: list(dict.fromkeys(numbers)) for chat, numbers in slow.told().items()} == {
        chat: list(range(10)) for chat in CHATS
    }


def test_a_failing_webhook_is_called_with_growing_pauses_one_call_at_a_time(connection, customers, senders):
    at_once, most = threading.Semaphore(0), []

    def answer(call):
        at_once.release()
        most.append(at_once._value)
        at_once.acquire()
        return 503

    customer = customers(answer)
    webhook = register(connection, customer.url)
    raise_events(connection, 1, chats=CHATS)
    senders.start()
    pause = "SELECT failures, paused_until > now() FROM webhook WHERE id = %s"
    eventually(lambda: execute(connection, pause, (webhook,)) in ([(3, True)], [(4, True)]))
    assert len(customer.calls) <= 4 + 4
    assert max(most) <= 4
    assert set(most[4:]) <= {1}
    assert waiting(connection) == (8, 8)


def test_at_most_four_calls_of_a_webhook_are_under_way(connection, customers, senders):
    release, lock, now, most = threading.Event(), threading.Lock(), [0], [0]

    def answer(call):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        release.wait(60)
        with lock:
            now[0] -= 1
        return 200

    customer = customers(answer)
    register(connection, customer.url)
    raise_events(connection, 1, 2, chats=CHATS)
    senders.start()
    eventually(lambda: now[0] == 4)
    release.set()
    eventually(lambda: waiting(connection) == (0, 0))
    assert most == [4]


def test_a_broken_connection_counts_as_a_failure(connection, customers, senders):
    customer = customers(lambda call: None if call.headers["X-Webhook-Attempt"] == "1" else 200)
    webhook = register(connection, customer.url)
    raise_events(connection, 1)
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert delivery(connection, webhook)[:2] == ("delivered", 2)
    assert len(customer.calls) == 2


def test_a_redirect_is_not_followed(connection, customers, senders):
    target = customers()
    customer = customers(lambda call: 302)
    webhook = register(connection, customer.url)
    raise_events(connection, 1)
    senders.start()
    eventually(lambda: delivery(connection, webhook)[1] >= 1)
    assert delivery(connection, webhook)[2:] == (302, "it answered 302")
    assert target.calls == []


def test_an_address_in_our_own_network_is_not_called(database, tmp_path, pool, connection, customers):
    customer = customers()
    webhook = register(connection, customer.url)
    raise_events(connection, 1)
    closed = Senders(settings_for(database, tmp_path), pool)
    try:
        closed.start()
        eventually(lambda: delivery(connection, webhook)[1] >= 1)
    finally:
        closed.close()
    error = delivery(connection, webhook)[3]
    assert "not a public address" in error
    assert "127.0.0.1" not in error  # that is the operator's to know, not the company's
    assert customer.calls == []


def test_an_event_becomes_a_dead_letter_after_a_day_and_the_next_one_is_delivered(connection, customers, senders):
    customer = customers(lambda call: 500 if call.event["payload"]["number"] == 1 else 200)
    webhook = register(connection, customer.url)
    raise_events(connection, 1, 2)
    senders.start()
    eventually(lambda: delivery(connection, webhook)[1] >= 1)
    assert delivery(connection, webhook)[0] == "pending"
    execute(
        connection, "UPDATE webhook_delivery SET first_tried_at = first_tried_at - interval '25 hours' WHERE seq = 1"
    )
    eventually(lambda: hurry(connection) or waiting(connection) == (0, 0))
    assert delivery(connection, webhook)[0] == "dead"
    assert delivery(connection, webhook, 2)[0] == "delivered"
    assert customer.told() == {CHAT: [2]}


def test_a_webhook_that_answers_410_makes_the_event_a_dead_letter(connection, customers, senders):
    customer = customers(lambda call: 410)
    webhook = register(connection, customer.url)
    raise_events(connection, 1)
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert delivery(connection, webhook) == ("dead", 1, 410, "it answered 410")
    found = webhooks.find(connection, webhook)
    assert found is not None
    assert found["active"]


def test_a_secret_is_replaced_without_a_gap(settings, connection, customers, senders):
    customer = customers()
    webhook = register(connection, customer.url)
    key = settings.encryption_key.get_secret_value()
    webhooks.rotate(connection, webhook, encrypt(key, "the secret to come", webhooks.secret_row(webhook)), 3600)
    raise_events(connection, 1)
    senders.start()
    eventually(lambda: customer.taken)
    execute(connection, "UPDATE webhook SET previous_until = now()")
    raise_events(connection, 2)
    eventually(lambda: len(customer.taken) == 2)
    during, after = customer.taken
    assert during.signed_with("the secret to come")
    assert during.signed_with(SECRET, "X-Webhook-Hmac-Previous")
    assert after.signed_with("the secret to come")
    assert "X-Webhook-Hmac-Previous" not in after.headers


def test_a_secret_under_another_key_is_an_error_of_the_delivery(connection, customers, senders):
    customer = customers()
    webhook = register(connection, customer.url, key="1" * 64)
    raise_events(connection, 1)
    senders.start()
    eventually(lambda: delivery(connection, webhook)[1] >= 1)
    assert "ENCRYPTION_KEY" in delivery(connection, webhook)[3]
    assert customer.calls == []


def test_the_next_event_is_due_when_its_chat_and_its_webhook_permit(connection, customers):
    def seconds():
        return store.next_due(connection) or 0

    assert store.next_due(connection) is None
    webhook = register(connection, customers().url)
    raise_events(connection, 1)
    assert seconds() <= 0
    execute(connection, "UPDATE webhook_lane SET due = now() + interval '100 seconds'")
    assert 0 < seconds() <= 100
    execute(connection, "UPDATE webhook SET paused_until = now() + interval '1000 seconds'")
    assert 100 < seconds() <= 1000
    execute(connection, "UPDATE webhook SET active = false WHERE id = %s", (webhook,))
    assert store.next_due(connection) is None


def test_the_claims_of_an_earlier_run_are_released_at_once(connection, customers, senders):
    customer = customers()
    register(connection, customer.url)
    raise_events(connection, 1, chats=CHATS)
    name = senders.start()._name.replace("run1", "killed")
    eventually(lambda: waiting(connection) == (0, 0))
    senders.close()
    raise_events(connection, 2, chats=CHATS)
    assert len(store.claim(connection, name, 3600, 100)) == 4
    senders.start(run="run2")
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {chat: [1, 2] for chat in CHATS}


def test_an_expired_lease_passes_to_another_sender(connection, customers, senders):
    customer = customers()
    register(connection, customer.url)
    raise_events(connection, 1)
    assert store.claim(connection, "elsewhere/events/1", 0, 100)
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {CHAT: [1]}


def test_a_sender_that_slept_beyond_its_lease_sends_nothing_until_it_has_claimed_again(
    connection, customers, senders, monkeypatch
):
    customer, usual, slept = customers(), store.claim, []
    register(connection, customer.url)
    raise_events(connection, 1)
    now = process_times.boottime

    def claim(*arguments):
        found = usual(*arguments)
        if found and not slept:
            slept.append(True)
            monkeypatch.setattr(process_times, "boottime", lambda: now() + 1000)
        return found

    monkeypatch.setattr(store, "claim", claim)
    senders.start()
    eventually(lambda: "slept" in str(execute(connection, "SELECT error FROM webhook_delivery")))
    assert customer.told() == {}
    hurry(connection)
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {CHAT: [1]}


def test_a_result_is_not_recorded_once_another_sender_has_the_claim(connection):
    webhook = register(connection, "http://127.0.0.1:1/")
    raise_events(connection, 1)
    [first] = store.claim(connection, "a/events/1", 0, 100)
    [second] = store.claim(connection, "b/events/1", 60, 100)
    assert (first.seq, second.seq) == (1, 1)
    assert store.record(connection, "a/events/1", [Result(webhook, CHAT, 1, "delivered", status=200)]) == []
    assert waiting(connection) == (1, 1)
    assert store.record(connection, "b/events/1", [Result(webhook, CHAT, 1, "delivered", status=200)]) == []
    assert waiting(connection) == (0, 0)


def test_a_lane_that_is_locked_is_recorded_later(pool, connection):
    webhook = register(connection, "http://127.0.0.1:1/")
    raise_events(connection, 1)
    store.claim(connection, "a/events/1", 60, 100)
    result = Result(webhook, CHAT, 1, "delivered", status=200)
    with pool.connection() as raising:
        execute(raising, "BEGIN")
        raise_events(raising, 2)
        assert store.record(connection, "a/events/1", [result]) == [result]
        execute(raising, "COMMIT")
    assert store.record(connection, "a/events/1", [result]) == []
    assert waiting(connection) == (1, 1)


def test_an_inactive_webhook_waits(connection, customers, senders):
    customer = customers()
    webhook = register(connection, customer.url)
    raise_events(connection, 1)
    webhooks.change(connection, webhook, None, None, False)
    raise_events(connection, 2)
    senders.start()
    other = customers()
    register(connection, other.url)
    raise_events(connection, 3)
    eventually(lambda: other.told() == {CHAT: [3]})
    assert customer.calls == []
    webhooks.change(connection, webhook, None, None, True)
    eventually(lambda: customer.told() == {CHAT: [1]})


def test_an_event_that_is_not_kept_any_more_is_dead(connection, customers, senders):
    customer = customers()
    webhook = register(connection, customer.url)
    raise_events(connection, 1, 2)
    execute(connection, "DELETE FROM event WHERE seq = 1")
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert delivery(connection, webhook)[:2] == ("dead", 0)
    assert customer.told() == {CHAT: [2]}


@pytest.mark.parametrize("size", [65_000, 65_090, 65_536, 131_072, 1_400_000])
def test_an_event_of_any_size_arrives_and_the_next_ones_of_its_chat_follow(connection, customers, senders, size):
    customer = customers()
    register(connection, customer.url)
    raise_events(connection, 1, body="é" * size)
    raise_events(connection, 2)
    senders.start()
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {CHAT: [1, 2]}
    assert customer.taken[0].event["payload"]["body"] == "é" * size
    assert all(call.signed_with(SECRET) for call in customer.taken)


def test_a_200_with_a_large_body_counts_as_delivered(connection, customers, senders):
    customer = customers()
    customer.page = b"<p>thank you</p>" * 131_072
    webhook = register(connection, customer.url)
    senders.start()
    raise_events(connection, 1, 2)
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {CHAT: [1, 2]}
    assert delivery(connection, webhook) == ("delivered", 1, 200, None)


@pytest.mark.parametrize(("page", "pause"), [(b"x" * 65_536, 0.0), (b".", 0.1)], ids=["fast", "slow"])
def test_a_200_whose_body_never_ends_counts_as_delivered(connection, customers, hasty_senders, page, pause):
    customer, senders = customers(), hasty_senders
    customer.page, customer.repeats_page = page, pause
    webhook = register(connection, customer.url)
    senders.start()
    raise_events(connection, 1, 2)
    eventually(lambda: waiting(connection) == (0, 0))
    assert customer.told() == {CHAT: [1, 2]}
    assert delivery(connection, webhook) == ("delivered", 1, 200, None)


def test_a_refusal_with_a_large_body_is_retried_for_its_status(connection, customers, senders):
    customer = customers(lambda call: 500)
    customer.page = b"x" * (2 << 20)
    webhook = register(connection, customer.url)
    senders.start()
    raise_events(connection, 1)
    eventually(lambda: delivery(connection, webhook)[1] >= 1)
    assert delivery(connection, webhook)[2:] == (500, "it answered 500")


def test_an_event_that_cannot_be_sent_becomes_a_dead_letter_and_the_others_continue(
    connection, customers, senders, monkeypatch
):
    real = sending.signed_headers

    def headers(secret, previous, body, attempt):
        if b"poison" in body:
            raise ValueError("cannot be signed \udcff\0")
        return real(secret, previous, body, attempt)

    monkeypatch.setattr(sending, "signed_headers", headers)
    customer = customers()
    webhook = register(connection, customer.url)
    raise_events(connection, 1, poison="poison")
    raise_events(connection, 2)
    raise_events(connection, 3, chats=CHATS[:1])
    senders.start()
    eventually(lambda: hurry(connection) or waiting(connection) == (0, 0))
    assert customer.told()[CHAT] == [2]
    assert [number for numbers in customer.told().values() for number in numbers].count(3) == 1
    status, attempts, _, error = delivery(connection, webhook)
    assert (status, attempts) == ("dead", INTERNAL_ATTEMPTS)
    assert "cannot be signed" in error
    [(failures,)] = execute(connection, "SELECT failures FROM webhook")
    assert failures == 0  # it is not the receiver's fault
