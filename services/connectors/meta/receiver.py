"""The receiver of Meta's and 360dialog's webhooks: verifies a request, stores it unchanged, and answers.

`gunicorn services.connectors.meta.receiver:create_service()` serves it (port 3002) together with its health; the legacy
process mounts the blueprint. Workers apply the stored webhooks later. The providers repeat a webhook for days until it
is answered with 200, so we answer 200 only after the commit. Meta signs webhooks with the app's secret, the same for
every bot of the app (HMAC-SHA256 over the raw bytes). 360dialog sends a secret that we gave it for that one bot.
"""

import hashlib
import hmac
import time
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from bisnesctl.settings import Settings
from services.connectors.meta.webhook_secrets import WebhookSecrets
from services.database.bounded_query import BoundedQuery
from services.database.connection import Database
from services.database.write_test import WriteTest
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError, answer_errors, unknown_bot, unknown_host
from services.http_server.host_names import STATE, HostNames
from services.http_server.routing import ExactAddresses
from services.http_server.service import Service
from services.inbox.webhook_inbox import BotName, WebhookWriter
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.runtime.process_overview import ProcessOverview
from services.runtime.signal_exposition import SignalExposition
from services.wakeups import Notifier, WakeupSender

NAME = "meta_webhooks"
PATH = "/api/meta/webhook"
DIALOG360_PATH = "/api/360dialog/webhook/<path:company>/<int:phone>"
#: The header with the signature of Meta's webhooks.
SIGNATURE_HEADER = "X-Hub-Signature-256"
#: The header with the secret of a bot at 360dialog.
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105
#: Maximum size of a webhook, in bytes (Webhooks reference: "up to 3 MB").
MAX_BODY = 3 << 20
#: How long the health check waits for the database until it counts as unavailable.
READY_TIMEOUT_SECONDS = 0.7

log = structlog.get_logger()


def sign(app_secret: str, raw_body: bytes) -> str:
    """The value of the signature header for a body: `sha256=` and 64 hex digits."""
    return f"sha256={hmac.digest(app_secret.encode(), raw_body, hashlib.sha256).hex()}"


def verify_signature(app_secret: str, raw_body: bytes, header: str | None) -> bool:
    """Whether the body was signed with the secret; in constant time. If the secret is empty, no body is."""
    if not app_secret or not header:
        return False
    return hmac.compare_digest(sign(app_secret, raw_body).encode(), header.encode(errors="replace"))


def blueprint(settings: Settings, database: Database, notifier: Notifier) -> Blueprint:
    """The webhooks' routes; they raise `ApiError` and `DatabaseUnavailable`. The first request connects."""
    webhooks = Blueprint(NAME, __name__)
    writer = WebhookWriter("meta", database, notifier)
    app_secret = settings.meta_app_secret.get_secret_value()
    verify_token = settings.meta_verify_token.get_secret_value()
    secrets = WebhookSecrets(settings, database)
    for name in ("meta_app_secret", "meta_verify_token"):
        if not getattr(settings, name).get_secret_value():
            log.warning("webhook.secret_missing", setting=name.upper(), advice="set it in .env and restart")

    def store(body: bytes, bot: BotName | None = None) -> Response:
        if not writer.put(body, bot) and bot is not None:
            raise unknown_bot(bot.company_id, bot.phone_index)
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
        _check_secret(secrets, bot)
        return store(_body(), bot)

    return webhooks


def _challenge(verify_token: str) -> Response:
    """The handshake: a caller that knows the token gets the challenge back."""
    asked = request.args
    known = hmac.compare_digest(asked.get("hub.verify_token", "").encode(), verify_token.encode())
    if not (verify_token and known and asked.get("hub.mode") == "subscribe"):
        raise ApiError(ErrorCode.WRONG_VERIFY_TOKEN, "hub.mode is not subscribe, or META_VERIFY_TOKEN is another one")
    return Response(
        asked.get("hub.challenge", ""), mimetype="text/plain", headers={"X-Content-Type-Options": "nosniff"}
    )


def _body() -> bytes:
    request.max_content_length = MAX_BODY
    try:
        return request.get_data()
    except RequestEntityTooLarge:
        raise ApiError(ErrorCode.TOO_LARGE, f"a webhook may have {MAX_BODY} bytes at most") from None


def _signed_body(app_secret: str) -> bytes:
    body = _body()
    if not verify_signature(app_secret, body, request.headers.get(SIGNATURE_HEADER)):
        log.warning("webhook.refused", reason="not signed with META_APP_SECRET", remote=request.remote_addr)
        message = f"{SIGNATURE_HEADER} does not sign this body with the app's secret"
        raise ApiError(ErrorCode.INVALID_SIGNATURE, message)
    return body


def _check_secret(secrets: WebhookSecrets, bot: BotName) -> None:
    sent = request.headers.get(SECRET_HEADER, "").encode()
    for again in (False, True):
        if any(hmac.compare_digest(sent, secret.encode()) for secret in secrets.of(bot, again)):
            return
    log.warning("webhook.refused", reason="without the secret of its bot", remote=request.remote_addr)
    raise ApiError(ErrorCode.INVALID_SECRET, f"{SECRET_HEADER} is not this number's: set it with bisnesctl bots add")


def _not_found(_: Exception) -> tuple[dict[str, Any], int]:
    return ApiError(ErrorCode.NOT_FOUND, f"only {PATH}, {DIALOG360_PATH}, /health and /metrics are here").body(), 404


class Receiver(ExactAddresses):
    """The application of the meta process: the webhooks, which need no key, and the health of the process."""

    def __init__(self, settings: Settings, database: Database, notifier: Notifier) -> None:
        """The first request connects."""
        super().__init__(__name__, static_folder=None)
        self.counters = Counters(pool=database.use)  # reported by the heartbeat of the process
        self._started = time.monotonic()
        self._database = database
        self._ready = BoundedQuery(self._query)
        self._write_test = WriteTest()
        answer_errors(self)
        self.register_error_handler(404, _not_found)
        self.register_blueprint(blueprint(settings, database, notifier))
        self._overview = ProcessOverview(settings, database)
        self._names = HostNames([settings.public_url or ""])
        for path in ("/health", "/api/health", "/health/live"):
            self.add_url_rule(path, view_func=self.live)
        self.add_url_rule("/health/ready", view_func=self.ready)
        self.add_url_rule("/health/all", view_func=self._overview.all)
        self._signals = SignalExposition(settings)
        self.add_url_rule("/metrics", view_func=self.signals)
        self.add_url_rule("/metrics/<process>", view_func=self.metrics)
        self.before_request(self._check_host)
        self.after_request(self._count)

    def live(self) -> Any:
        """Whether the process answers at all."""
        return {"success": True, "status": "ok", "process": "meta", "uptime": int(time.monotonic() - self._started)}

    def ready(self) -> Any:
        """Whether webhooks can be stored; 503 otherwise."""
        self._ready.within(READY_TIMEOUT_SECONDS)
        return {"success": True, "status": "ready", "process": "meta"}

    def signals(self) -> Response:
        """All signals for Prometheus, as the API shows them."""
        text, content_type = self._signals.answer(request.headers.get("Accept", ""))
        return Response(text, content_type=content_type)

    def metrics(self, process: str) -> Any:
        """Figures of one program, as the API shows them."""
        try:
            return self._overview.metrics(process)
        except LookupError as error:
            raise ApiError(ErrorCode.NOT_FOUND, str(error)) from None

    def _check_host(self) -> None:
        host = request.headers.get("Host", "")
        if request.path.startswith(STATE) and not self._names.include(host):
            raise unknown_host(host)

    def _query(self) -> None:
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT FROM webhook_inbox LIMIT 1")
            self._write_test.check(connection)

    def _count(self, response: Response) -> Response:
        if request.method == "POST" and request.blueprint == NAME:
            self.counters.processed += response.status_code == 200
            if response.status_code >= 500:
                self.counters.fail(f"a webhook was answered with {response.status_code}")
        return response


def create_service() -> Service:
    """The application for gunicorn, from the environment's settings."""
    process = Process.from_environment("meta", lambda settings: settings.database_pool_meta_max)
    wakeups = WakeupSender(process.settings.redis_dsn)
    return Service(Receiver(process.settings, process.database, wakeups), MAX_BODY)
