"""The receiver of Meta's and 360dialog's webhooks: verifies a request, stores it as it came, and answers.

`gunicorn services.connectors.meta.receiver:create_service()` serves it (port 3002) with its health; the legacy process
mounts the blueprint. Workers apply the stored webhooks later. The providers repeat a webhook for days until it is
answered with 200, so we answer 200 only after the commit. Meta signs with the app's secret, for every number of the
app; 360dialog sends a secret that we gave it for that one number.
"""

import hmac
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from bisnesctl import encryption
from bisnesctl.settings import Settings
from services.connectors.meta.signature import HEADER, verify_signature
from services.database.bounded_query import BoundedQuery
from services.database.connection import Database
from services.database.write_test import WriteTest
from services.http_server.errors import ApiError, answer_errors
from services.http_server.routing import ExactAddresses
from services.http_server.service import Service
from services.inbox.webhook_inbox import BotName, WebhookWriter
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.wakeups import Notifier, WakeupSender, WakingBroker

NAME = "meta_webhooks"
PATH = "/api/meta/webhook"
DIALOG360_PATH = "/api/360dialog/webhook/<path:company>/<int:phone>"
#: The header with the secret of a number at 360dialog.
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105
#: Bytes in a webhook, at most (Webhooks reference: "up to 3 MB").
MAX_BODY = 3 << 20
#: Seconds after which the database counts as away.
PATIENCE = 0.7
QUEUE = "meta-webhooks"

log = structlog.get_logger()


def blueprint(settings: Settings, database: Database, hints: Notifier) -> Blueprint:
    """The webhooks' addresses; they raise `ApiError` and `DatabaseUnavailable`. Nothing connects by itself."""
    webhooks = Blueprint(NAME, __name__)
    letterbox = WebhookWriter("meta", database)
    app_secret = settings.meta_app_secret.get_secret_value()
    verify_token = settings.meta_verify_token.get_secret_value()
    encryption_key = settings.encryption_key.get_secret_value()
    for name in ("meta_app_secret", "meta_verify_token"):
        if not getattr(settings, name).get_secret_value():
            log.warning("Meta's webhooks will be refused: set it in .env and restart", missing=name.upper())

    def store(body: bytes, bot: BotName | None = None) -> Response:
        if not letterbox.put(body, bot):
            raise ApiError(404, "unknown_bot", "that company has no such number (any more): see bisnesctl bots list")
        hints.notify(QUEUE)
        return jsonify(success=True)

    @webhooks.get(PATH)
    def verify() -> Response:
        return _challenge(verify_token)

    @webhooks.post(PATH)
    def receive() -> Response:
        return store(_signed_body(app_secret))

    @webhooks.post(DIALOG360_PATH)
    def receive_of_360dialog(company: str, phone: int) -> Response:
        bot = BotName(company, phone)
        _check_secret(encryption_key, bot)
        return store(_body(), bot)

    return webhooks


def _challenge(verify_token: str) -> Response:
    """The handshake: who knows the token gets the challenge back."""
    asked = request.args
    known = hmac.compare_digest(asked.get("hub.verify_token", "").encode(), verify_token.encode())
    if not (verify_token and known and asked.get("hub.mode") == "subscribe"):
        raise ApiError(403, "wrong_verify_token", "hub.mode is not subscribe, or META_VERIFY_TOKEN is another one")
    return Response(
        asked.get("hub.challenge", ""), mimetype="text/plain", headers={"X-Content-Type-Options": "nosniff"}
    )


def _body() -> bytes:
    request.max_content_length = MAX_BODY
    try:
        return request.get_data()
    except RequestEntityTooLarge:
        raise ApiError(413, "too_large", f"a webhook may have {MAX_BODY} bytes at most") from None


def _signed_body(app_secret: str) -> bytes:
    body = _body()
    if not verify_signature(app_secret, body, request.headers.get(HEADER)):
        log.warning("a webhook was refused: it was not signed with META_APP_SECRET", remote=request.remote_addr)
        raise ApiError(401, "invalid_signature", f"{HEADER} does not sign this body with the app's secret")
    return body


def _check_secret(encryption_key: str, bot: BotName) -> None:
    given = request.headers.get(SECRET_HEADER, "")
    try:
        secret = encryption.derived(encryption_key, "360dialog webhook", bot.company_id, str(bot.phone_index))
    except ValueError:  # a name that no company has
        secret = ""
    if encryption_key and secret and hmac.compare_digest(given.encode(), secret.encode()):
        return
    log.warning("a webhook was refused: it came without its number's secret", remote=request.remote_addr)
    raise ApiError(401, "invalid_secret", f"{SECRET_HEADER} is not this number's: set it with bisnesctl bots add")


def _not_found(_: Exception) -> tuple[dict[str, Any], int]:
    return ApiError(404, "not_found", f"only {PATH}, {DIALOG360_PATH} and /health/… are here").body(), 404


class Receiver(ExactAddresses):
    """The application of the meta process: the webhooks, which prove themselves without a key, and its own health."""

    def __init__(self, settings: Settings, database: Database, hints: Notifier) -> None:
        super().__init__(__name__, static_folder=None)
        self.counters = Counters()  # told by the process's heartbeat
        self._database, self._ready, self._write_test = database, BoundedQuery(self._ask), WriteTest()
        answer_errors(self)
        self.register_error_handler(404, _not_found)
        self.register_blueprint(blueprint(settings, database, hints))
        self.add_url_rule("/health/live", view_func=self.live)
        self.add_url_rule("/health/ready", view_func=self.ready)
        self.after_request(self._count)

    def live(self) -> Any:
        """The process answers."""
        return {"success": True, "status": "ok", "process": "meta"}

    def ready(self) -> Any:
        """Webhooks can be stored; 503 otherwise."""
        self._ready.within(PATIENCE)
        return {"success": True, "status": "ready", "process": "meta"}

    def _ask(self) -> None:
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT FROM webhook_inbox LIMIT 1")
            self._write_test.check(connection)

    def _count(self, response: Response) -> Response:
        if request.method == "POST" and request.blueprint == NAME:
            self.counters.processed += response.status_code == 200
            self.counters.errors += response.status_code >= 500
        return response


def create_app(settings: Settings, database: Database, hints: Notifier) -> Receiver:
    """The application; it connects with the first request."""
    return Receiver(settings, database, hints)


def create_service() -> Service:
    """The application for gunicorn, from the environment's settings."""
    process = Process.from_environment("meta", lambda settings: settings.database_pool_meta_max)
    wakeups = WakeupSender(WakingBroker(process.settings.redis_dsn))
    return Service(create_app(process.settings, process.database, wakeups), MAX_BODY)
