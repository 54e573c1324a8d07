"""Two companies on one installation: what each has, the providers that know what is whose, and a copy of all rows."""

import json
from typing import Any, cast

from uuid_utils import uuid7

from bisnesctl.bots import provider_queries
from bisnesctl.settings import Settings
from services.connectors.meta.receiver import PATH, SECRET_HEADER, SIGNATURE_HEADER, Receiver, sign
from services.connectors.meta.translation.incoming import parse
from services.database.connection import Connection, Database
from services.inbox.webhook_inbox import Inbox
from services.message import Payload, Status
from services.outbox.accept import Entry
from services.outbox.outcome_policy import Result
from services.outbox.store import Outbox
from tests.support.api import OTHER
from tests.support.meta_payloads import webhook
from tests.support.outbox import WORKER, accept, execute
from tests.support.remote.graph_api import APP, DIALOG360_HEALTH, SCOPES, WELL, Answer, Json, Provider

COMPANY = "0128"
CHAT = "60123456789"
#: A part of every text and id that only the company 0128 may see.
MARK = "owned-by-0128"

# The company 0128.
NUMBER = "10550128"
ACCOUNT = "77000128"
DIALOG_NUMBER = "36010128"
DIALOG_ACCOUNT = "36020128"
#: A number at Meta that is not linked.
UNLINKED = "10560128"

# The company 0999.
OTHER_NUMBER = "20660999"
OTHER_ACCOUNT = "88000999"
OTHER_DIALOG = "46010999"
OTHER_DIALOG_ACCOUNT = "46020999"
TOKENS = {"EAAG-0128": (ACCOUNT, (NUMBER, UNLINKED)), "EAAG-0999": (OTHER_ACCOUNT, (OTHER_NUMBER,))}
KEYS = {"d360-0128": (DIALOG_NUMBER, DIALOG_ACCOUNT), "d360-0999": (OTHER_DIALOG, OTHER_DIALOG_ACCOUNT)}
APP_SECRET = "app-secret"


class Providers(Provider):
    """Meta and 360dialog. Each credential gives access to the objects of its company alone."""

    def __init__(self) -> None:
        super().__init__()
        self.unsaid: set[str] = set()  # kinds of ids that 360dialog omits
        self.tell("/debug_token", {"data": {"is_valid": True, "expires_at": 0, "app_id": APP, "scopes": SCOPES}})
        self.tell("/oauth/access_token", {"access_token": "EAAG-0999"}, method="POST")
        self.answers["GET", "/d360/health_status"] = self._health
        for method in ("GET", "POST"):
            self.tell("/d360/v1/configs/webhook", {}, method=method)
        for account, numbers in TOKENS.values():
            own = [{"id": number} for number in numbers]
            self._give(account, f"/{account}/phone_numbers", {"data": own})
            self._give(account, f"/{account}/subscribed_apps", {"data": [], "success": True}, "POST")
            for number in numbers:
                self._give(account, f"/{number}", {**WELL, "id": number})
                self._give(account, f"/{number}/register", {"success": True}, "POST")

    def _give(self, account: str, path: str, answer: Json, method: str = "GET") -> None:
        """Answer like this if the token is of the account."""
        refused: Answer = 400, {"error": {"message": "Unsupported request", "code": 100, "error_subcode": 33}}

        def asked() -> Answer:
            token = self.asked[-1].headers["Authorization"].removeprefix("Bearer ")
            return (200, answer) if TOKENS.get(token, ("",))[0] == account else refused

        self.answers[method, path] = asked

    def _health(self) -> Answer:
        ids: dict[str, str] = dict(
            zip(("PHONE_NUMBER", "WABA"), KEYS[self.asked[-1].headers["D360-API-KEY"]], strict=True)
        )
        entities = [
            each | {"id": ids[each["entity_type"]]}
            for each in DIALOG360_HEALTH["entities"]
            if each["entity_type"] not in self.unsaid
        ]
        return 200, {"health_status": {"can_send_message": "AVAILABLE", "entities": entities}}


class Webhooks:
    """The receiver of webhooks, and the inbox that applies them."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self.settings = settings
        self.connection = connection
        self._pool = Database(settings.database_dsn)
        self._client = Receiver(settings, self._pool, self).test_client()

    def notify(self, queue_name: str) -> None:
        pass

    def close(self) -> None:
        self._pool.close()

    def of_meta(self, *changes: tuple[str, Json], account: str = ACCOUNT, later: bool = False) -> None:
        """Receive changes (field, value) with Meta's signature, and apply them unless `later`."""
        body = _body(changes, account)
        assert self._client.post(PATH, data=body, headers={SIGNATURE_HEADER: sign(APP_SECRET, body)}).status_code == 200
        if not later:
            self.apply_all()

    def of_dialog360(
        self, phone: int, *changes: tuple[str, Json], account: str = ACCOUNT, company: str = OTHER, later: bool = False
    ) -> None:  # fmt: skip
        """Receive changes with the secret of a number at 360dialog, and apply them unless `later`."""
        secret = provider_queries.derived_dialog360_secrets(self.settings, company, phone)[0]
        address = f"/api/360dialog/webhook/{company}/{phone}"
        body = _body(changes, account)
        assert self._client.post(address, data=body, headers={SECRET_HEADER: secret}).status_code == 200
        if not later:
            self.apply_all()

    def apply_all(self) -> None:
        """Apply the stored webhooks."""
        Inbox("meta", parse, "https://bots.example").apply_all(self.connection)


def _body(changes: tuple[tuple[str, Json], ...], account: str) -> bytes:
    found = webhook(account=account)
    found["entry"][0]["changes"] = [{"field": field, "value": value} for field, value in changes]
    return json.dumps(found).encode()


def status(word: str, message_id: str | None, provider_id: str, code: int | None = None) -> Json:
    """A status report of a message."""
    found: Json = {"id": provider_id, "status": word, "timestamp": "1790000000", "recipient_id": CHAT}
    errors = [{"code": code, "title": "refused"}] if code else []
    return found | {"biz_opaque_callback_data": message_id, "errors": errors}


def about(number: str, **more: Any) -> Json:
    """The value of a change about a number."""
    metadata = {"display_phone_number": "60311112222", "phone_number_id": number}
    return {"messaging_product": "whatsapp", "metadata": metadata} | more


def bot_id(connection: Connection, company: str, phone: int) -> int:
    """The id of a bot."""
    query = "SELECT id FROM phone_configs WHERE company_id = %s AND phone_index = %s"
    return int(execute(connection, query, (company, phone))[0][0])


def sent(
    connection: Connection, bot: int, provider_id: str, company: str = COMPANY, phone: int = 0, kind: str = "text",
    **payload: Any,
) -> str:  # fmt: skip
    """A message that its provider accepted. Returns our id of it."""
    message_id = str(uuid7())
    stored = cast(Payload, payload or {"message": f"text {MARK}"})
    entry = Entry(message_id, "meta", bot, company, phone, CHAT, kind, stored)
    accept(connection, entry)
    outbox = Outbox("meta", WORKER, 1e6, 60)
    (claimed,) = [each for each in outbox.claim(connection, 10) if each.message_id == message_id]
    done = Result(bot, CHAT, claimed.id, WORKER, True, Status.SENT, provider_id=provider_id)
    outbox.record(connection, [done])
    return message_id


_TABLES = """
SELECT table_name, array_agg(column_name::text) FROM information_schema.columns JOIN information_schema.tables
    USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
    AND column_name IN ('company_id', 'bot_id', 'webhook_id')
    AND table_name <> 'audit_record'  -- the trail of earlier changes is delivered at some later time
GROUP BY table_name"""


def rows_of(connection: Connection, company: str = COMPANY) -> dict[str, list[str]]:
    """Every row that belongs to a company, by table: all tables that name a company, a bot or a webhook."""
    bots = [row[0] for row in execute(connection, "SELECT id FROM phone_configs WHERE company_id = %s", (company,))]
    hooks = [row[0] for row in execute(connection, "SELECT id::text FROM webhook WHERE company_id = %s", (company,))]
    found: dict[str, list[str]] = {}
    for table, columns in execute(connection, _TABLES):
        column = next(name for name in ("company_id", "bot_id", "webhook_id") if name in columns)
        values: list[Any] = {"company_id": [company], "bot_id": [str(each) for each in bots], "webhook_id": hooks}[
            column
        ]
        found[table] = sorted(
            row[0]
            for row in execute(
                connection, f"SELECT to_jsonb(t)::text FROM {table} t WHERE {column}::text = ANY(%s)", (values,)
            )
        )
    assert found["phone_configs"]
    assert len(found) > 20
    return found
