"""Anything at all, posted to the webhook and applied: it is answered with 200, harms nothing and holds nothing up."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisnesctl.bots import provider_queries
from services.connectors.meta.receiver import PATH, SECRET_HEADER, SIGNATURE_HEADER, Receiver, sign
from services.connectors.meta.translation.incoming import parse
from services.database.connection import Database
from services.inbox.webhook_inbox import Inbox
from tests.support.api import settings_for
from tests.support.meta_payloads import AINA, ALL, MESSAGES, VALUES, message, places, replaced, value, webhook
from tests.support.outbox import add_bot, execute

SECRET = "app-secret"
#: Why a webhook may be set aside; a refusal of PostgreSQL's is none of the reasons.
REASONS = ("not ", "no bot has the number id", "it speaks of the number id")
IN_A_DATABASE = settings(max_examples=150)

#: Odd values: types, sizes, characters that PostgreSQL refuses, numbers out of every range.
odd = st.sampled_from([None, True, -1, 2**63, 10**400, 1e308, "", "\0", "a\0b", "\ud800", "x" * 3000, "9" * 400,
                       "US.1", "1e999", [], {}, [[]], ["STOP"], [{}], {"id": "1"}, {"\0": "\0"}])  # fmt: skip
texts = st.text(st.characters(exclude_categories=()), max_size=12)
json_values = st.recursive(
    odd | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
NOTICES = [webhook(said, field=name) for name, (_, said) in VALUES.items()]
ECHOES = webhook(
    {
        "metadata": {"phone_number_id": "1055"},
        "message_echoes": [each | {"from": "603", "to": AINA} for each in MESSAGES.values()],
    },
    field="smb_message_echoes",
)


@st.composite
def mutated(draw):
    """A documented webhook of which something is something else."""
    found = draw(st.sampled_from([ALL, ECHOES, *NOTICES]))
    for _ in range(draw(st.integers(1, 3))):
        found = replaced(found, draw(st.sampled_from(places(found))), draw(json_values))
    return found


bodies = st.binary(max_size=60) | (json_values | mutated()).map(lambda found: json.dumps(found).encode())


class Stage:
    """A receiver, and the inbox that it fills, for one number of Meta and one of 360dialog."""

    def __init__(self, dsn, folder):
        self.settings = settings_for(dsn, folder, META_APP_SECRET=SECRET)
        self.pool = Database(dsn)
        self.client = Receiver(self.settings, self.pool, self).test_client()
        self.connection = self.pool.connect()
        self._good = 0
        execute(self.connection, "INSERT INTO event_feed (company_id) VALUES ('0128')")
        for index, kind in enumerate(("meta_direct", "360dialog")):
            bot = add_bot(self.connection, index=index, kind=kind)
            execute(
                self.connection,
                "UPDATE phone_configs SET meta_waba_id = 'W1', meta_phone_number_id = %s WHERE id = %s",
                (("1055", None)[index], bot),
            )

    def notify(self, queue_name):
        pass

    def post(self, body, signature=None):
        return self.client.post(
            PATH, data=body, headers={SIGNATURE_HEADER: signature or sign(SECRET, body)}
        ).status_code

    def post_360dialog(self, body):
        secret = provider_queries.derived_dialog360_secrets(self.settings, "0128", 1)[0]
        address = "/api/360dialog/webhook/0128/1"
        return self.client.post(address, data=body, headers={SECRET_HEADER: secret}).status_code

    def apply_all(self):
        return Inbox("meta", parse, "https://bots.example").apply_all(self.connection)

    def stored(self):
        return execute(self.connection, "SELECT count(*) FROM webhook_inbox")[0][0]

    def waiting(self):
        return execute(self.connection, "SELECT count(*) FROM webhook_inbox WHERE processed_at IS NULL")[0][0]

    def reasons(self):
        return [row[0] for row in execute(self.connection, "SELECT error FROM webhook_inbox WHERE error IS NOT NULL")]

    def takes_a_message(self):
        """Whether a message that comes now is written down."""
        self._good += 1
        wamid = f"wamid.good.{self._good}"
        self.post(json.dumps(webhook(value(message("text", {"body": "Hello"}, id=wamid)))).encode())
        self.apply_all()
        return execute(self.connection, "SELECT count(*) FROM messages WHERE external_id = %s", (wamid,)) == [(1,)]


@pytest.fixture
def stage(database, tmp_path):
    stage = Stage(database, tmp_path)
    yield stage
    stage.connection.close()
    stage.pool.close()


@IN_A_DATABASE
@given(bodies)
def test_any_signed_body_is_accepted_and_delays_nothing(stage, body):
    assert stage.post(body) == 200
    assert stage.post_360dialog(body) == 200
    assert stage.apply_all() == 2
    assert stage.waiting() == 0
    assert [reason for reason in stage.reasons() if not reason.startswith(REASONS)] == []
    assert stage.takes_a_message()


@IN_A_DATABASE
@given(bodies, st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=80))
def test_anything_that_is_not_signed_is_refused_and_not_kept(stage, body, signature):
    with contextlib.suppress(ValueError):  # a header that no client could send
        assert stage.post(body, signature or "sha256=") == 401
    assert stage.client.post(PATH, data=body).status_code == 401
    assert stage.stored() == 0


def test_a_webhook_that_our_code_cannot_apply_is_rejected_alone(stage):
    def stumbling(body):
        if b"poison" in body:
            raise KeyError("no such key")
        return parse(body)

    for name in ("one", "poison", "two"):
        said = message("text", {"body": name}, id=f"wamid.{name}")
        stage.post(json.dumps(webhook(value(said))).encode())
    assert Inbox("meta", stumbling).apply_all(stage.connection) == 3
    assert (stage.waiting(), stage.reasons()) == (0, ["'no such key'"])
    assert execute(stage.connection, "SELECT content FROM messages ORDER BY content") == [("one",), ("two",)]


@pytest.mark.parametrize("found", [ALL, ECHOES, *NOTICES], ids=lambda found: found["entry"][0]["changes"][0]["field"])
def test_documented_webhooks_are_applied_and_a_duplicate_changes_nothing(stage, found):
    tables = ("messages", "contacts", "chat", "media_download", "event")
    counts = []
    for _ in range(2):
        assert stage.post(json.dumps(found).encode()) == 200
        stage.apply_all()
        counts.append([execute(stage.connection, f"SELECT count(*) FROM {name}")[0][0] for name in tables[:4]])
    assert stage.reasons() == []
    assert counts[0] == counts[1]
    assert execute(stage.connection, "SELECT count(*) FROM event")[0][0] > 0
