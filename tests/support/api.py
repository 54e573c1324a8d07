"""A small company and its API on a real database, without a server in front."""

import contextlib
import hashlib
import threading
import time

import psycopg2
import uvicorn

from bisnesctl.settings import load
from services.api.app import create_app
from services.api.asgi import AsgiApp
from services.api.context import connect
from services.api.openapi import Problem
from services.http_server.error_codes import ErrorCode
from services.http_server.protocol import HttpProtocol
from services.outbox.store import Outbox

COMPANY, OTHER = "0128", "0999"
KEY, OTHER_KEY, OPERATOR_KEY, REVOKED_KEY = "bk_company", "bk_other", "bk_operator", "bk_revoked"
CHAT = "60123456789"
#: An address where nobody listens.
NOWHERE = "http://127.0.0.1:1"


class Quiet:
    """Nobody to be woken: the tests deliver by hand."""

    def notify(self, queue_name):
        pass


def settings_for(dsn, folder, **more):
    """The settings of a service on the database `dsn` with its state below `folder`."""
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "META_GRAPH_URL": NOWHERE, "DIALOG360_URL": NOWHERE}
    lines = {"DATABASE_URL": dsn, "ENCRYPTION_KEY": "0" * 64} | nowhere | more
    env = folder / ".env"
    env.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return load(env)


def add_company(dsn):
    """Two numbers of one company and one of another, and four keys."""
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
def api(settings):
    """The context and a client of the Flask application; the client sends no key by itself."""
    context = connect(settings, Quiet())
    try:
        yield context, create_app(context).test_client()
    finally:
        context.close()


def refusal(answer):
    """Status and code of an error, which has the documented form."""
    problem = Problem.model_validate(answer.json() if callable(answer.json) else answer.json)
    assert ErrorCode(problem.code).status == answer.status_code
    assert problem.error
    return answer.status_code, problem.code


@contextlib.contextmanager
def serving(settings):
    """Base URL of the API as its server has it: the ASGI application under uvicorn."""
    front = AsgiApp(lambda: connect(settings, Quiet()))
    server = uvicorn.Server(uvicorn.Config(front, port=0, http=HttpProtocol, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def outbox():
    """A worker's view of the outbox, with no pace to speak of."""
    return Outbox("meta", "host/meta-worker-1/1", rate=10_000.0, lease=60.0)
