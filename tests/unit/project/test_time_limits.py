"""No call in the product waits without a limit: a lint that finds the usual ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: Calls that wait for ever if they are given no argument at all, by their last name.
WAITING = {"result", "join", "wait", "get", "recv", "communicate"}
#: Calls that need `timeout=`, by the module and name that they are called by.
TIMED = {
    *(f"requests.{name}" for name in ("get", "post", "put", "patch", "delete", "head", "request")),
    *(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")),
    "session.request",
    "urlopen",
    "socket.create_connection",
    "http.client.HTTPConnection",
    "websocket.create_connection",
}
#: Calls that open a connection to PostgreSQL or Redis, and the one module that sets their limits.
MADE_ONCE = {
    "psycopg2.connect": "bisnesctl/database/statement_deadline.py",
    "redis.Redis": "services/wakeups.py",
    "redis.ConnectionPool.from_url": "services/wakeups.py",
}
#: Waits that may last: for work, on a thread that has nothing else to do, or for what has a limit of its own. "path:
#: call" and why.
ALLOWED = {
    "bisnesctl/database/process_events.py: self._wake.wait": "for the next event",
    "services/wakeups.py: self._requested.wait": "for the next wake-up, or the next marker to clear",
    "services/database/group_commit.py: self._has_items.wait": "for the next item",
    "services/events/__main__.py: process.stopping.wait": "for the end of the process",
    "services/http_server/server.py: self._asked_to_exit.wait": "within asyncio.wait_for",
    "services/inbox/webhook_inbox.py: self._commits.submit(...).result": "GroupCommit ends it in time",
    "services/api/messages/sends.py: context.acceptor.accept(...).result": "GroupCommit ends it in time",
    "services/outbox/delivery.py: on_call.wait": "for the next announcement; a sweep that finds messages ends it too",
    "services/api/event_stream.py: stream.changed.wait": "within asyncio.wait_for",
    "bisnesctl/views/overview.py: read.result": "each statement has a limit",
    "bisnesctl/views/overview.py: looked.result": "each disk has a limit",
    "bisnesctl/views/overview.py: inspected.result": "each probe has a limit",
    "bisnesctl/views/overview.py: used.result": "it reads /proc",
    "bisnesctl/terminal/watch.py: capture.get": "it is no wait",
    "bisnesctl/monit/source.py: capture.get": "it is no wait",
    "bisnesctl/monit/actions.py: subprocess.run": "on a thread of its own; a command has limits of its own",
    "bisnesctl/releases/programs.py: child.wait": "a command has limits of its own, or it was killed",
    "services/dashboard/command_runs.py: subprocess.run": "a process of its own; a command has limits of its own",
    "services/dashboard/live.py: self._ended.wait": "a task that ends with its stream",
    "services/runtime/logging_setup.py: current_request.get": "it is no wait",
    "services/api/messages/sends.py: current_request.get": "it is no wait",
    "services/connectors/wwebjs/browser/cdp.py: self._socket.recv": "its socket has a time limit",
    "services/connectors/wwebjs/browser/chromium.py: self._process.wait": "after SIGKILL",
}


def sources() -> list[Path]:
    return [path for folder in ("bisnesctl", "services") for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{name_of(value)}.{name}"
        case ast.Call(func=function):
            return f"{name_of(function)}(...)"
        case _:
            return "…"


def untimed(tree: ast.AST) -> Iterator[str]:
    """The names of the calls that are given no time."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, given = name_of(call.func), {keyword.arg for keyword in call.keywords}
        if "timeout" in given or None in given:  # None: **options
            continue
        if name in TIMED:
            yield name
        if isinstance(call.func, ast.Attribute) and not call.args and not given and call.func.attr in WAITING:
            yield name


def waits(path: Path) -> set[str]:
    return {f"{path.relative_to(ROOT)}: {name}" for name in untimed(ast.parse(path.read_text()))}


@pytest.mark.parametrize(
    "code",
    [
        "future.result()", "thread.join()", "event.wait()", "queue.get()", "process.communicate()", "socket.recv()",
        "subprocess.run(['x'], check=True)", "requests.get(url)", "session.request('GET', url)",
    ],
)  # fmt: skip
def test_a_call_without_a_time_limit_is_found(code):
    assert list(untimed(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "future.result(3)", "thread.join(timeout=2)", "', '.join(names)", "mapping.get('x')", "event.wait(limit)",
        "subprocess.run(['x'], timeout=3)", "requests.get(url, timeout=3)", "requests.get(url, **options)",
    ],
)  # fmt: skip
def test_a_call_with_a_time_limit_is_not_reported(code):
    assert not list(untimed(ast.parse(code)))


def test_every_call_has_a_time_limit_or_is_allowed_to_have_none():
    found = set().union(*(waits(path) for path in sources()))
    assert found <= ALLOWED.keys(), "give it a time limit, or say in ALLOWED why it needs none"


def test_connections_are_opened_only_where_their_limits_are_set():
    for path in sources():
        place = str(path.relative_to(ROOT))
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            only_in = MADE_ONCE.get(name_of(call.func), place)
            assert only_in == place, f"{place} makes a connection of its own: see {only_in}"


@pytest.mark.parametrize("path", [path for path in sources() if "pycurl.Curl()" in path.read_text()], ids=str)
def test_every_libcurl_handle_has_a_total_and_a_connect_timeout(path):
    text = path.read_text()
    assert "pycurl.TIMEOUT" in text
    assert "pycurl.CONNECTTIMEOUT" in text
    assert "pycurl.NOSIGNAL" in text
