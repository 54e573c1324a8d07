"""The API on a real database: as a Flask test client or as its ASGI server, with two companies and four keys."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import uvicorn
from flask.testing import FlaskClient

from bisnesctl.settings import Settings, load
from services.api.app import create_app
from services.api.asgi import AsgiApp
from services.api.context import Context, connect
from services.api.openapi import Problem
from services.http_server.error_codes import ErrorCode
from services.http_server.protocol import HttpProtocol
from services.outbox.store import Outbox
from tests.support.waiting import HANG_SECONDS, wait_until

COMPANY = "0128"
OTHER = "0999"
KEY = "bk_company"
OTHER_KEY = "bk_other"
OPERATOR_KEY = "bk_operator"
REVOKED_KEY = "bk_revoked"
CHAT = "60123456789"
#: A URL without a server.
NOWHERE = "http://127.0.0.1:1"


class Quiet:
    """Wakes no worker: the tests deliver by themselves."""

    def notify(self, queue_name: str) -> None:
        pass


def settings_for(dsn: str, folder: Path, **more: Any) -> Settings:
    """The settings of a service on the database `dsn` with its state below `folder`."""
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "META_GRAPH_URL": NOWHERE, "DIALOG360_URL": NOWHERE}
    lines = {"DATABASE_URL": dsn, "ENCRYPTION_KEY": "0" * 64} | nowhere | more
    env = folder / ".env"
    env.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return load(env)


def add_company(dsn: str) -> None:
    """Add two numbers of one company, one number of another, and four keys."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id)"
            " VALUES (%s, 0, 'meta_direct', '1'), (%s, 1, 'meta_direct', '2'), (%s, 0, 'meta_direct', '3')",
            (COMPANY, COMPANY, OTHER),
        )
        for key, company in ((KEY, COMPANY), (OTHER_KEY, OTHER), (OPERATOR_KEY, None), (REVOKED_KEY, COMPANY)):
            cursor.execute(
                "INSERT INTO api_keys (key_hash, prefix, company_id, revoked_at)"
                " VALUES (%s, %s, %s, CASE WHEN %s THEN now() END)",
                (hashlib.sha256(key.encode()).digest(), key[:6], company, key == REVOKED_KEY),
            )


@contextlib.contextmanager
def api(settings: Settings) -> Iterator[tuple[Context, FlaskClient]]:
    """The context and a client of the Flask application. The client sends no key by itself."""
    context = connect(settings, Quiet())
    try:
        yield context, create_app(context).test_client()
    finally:
        context.close()


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code of an error, which must have the documented form. For answers of Flask and of requests."""
    problem = Problem.model_validate(answer.json() if callable(answer.json) else answer.json)
    (code,) = [code for code in ErrorCode if code.value == problem.code]
    assert code.status == answer.status_code
    assert problem.error
    return answer.status_code, problem.code


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The URL of the ASGI application under uvicorn."""
    front = AsgiApp(lambda counters: connect(settings, Quiet(), counters))
    server = uvicorn.Server(uvicorn.Config(front, port=0, http=HttpProtocol, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), pause=0.01)
    assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(HANG_SECONDS)


def outbox() -> Outbox:
    """A worker's view of the outbox, practically without a rate limit."""
    return Outbox("meta", "host/meta-worker-1/1", rate=10_000.0, lease=60.0)
