"""The codes of errors are a closed set: each code that is raised is described, and each that is described is raised."""

import ast
from collections.abc import Iterator
from pathlib import Path

from bisnesctl.database.transient_errors import CODES
from bisnesctl.queue.message_changes import CANCELLED
from services.api.message_errors import HTTP, OURS, WEB
from services.connector import NO_ANSWER
from services.connectors.meta.translation.errors import TABLE
from services.connectors.wwebjs.sending.handover import NOT_ACKNOWLEDGED
from services.connectors.wwebjs.translation import errors as page_errors
from services.http_server.error_codes import ErrorCode
from services.outbox.holds import UNREACHABLE
from services.outbox.recovery import WORKER_ENDED
from services.outbox.resolutions import RESOLVED

ROOT = Path(__file__).parents[3]
OUTCOMES = {"Rejected", "Retry", "Held", "Unavailable", "MediaRefused"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in (ROOT / "services").rglob("*.py"):
        if "sandbox" not in path.parts:
            yield path, ast.parse(path.read_text())


def raised_codes() -> set[str]:
    """The members of `ErrorCode` that the services name."""
    return {
        node.attr
        for path, tree in sources()
        if path.name != "error_codes.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    }


def constants(tree: ast.AST) -> dict[str, str]:
    """The texts that a module gives names."""
    return {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def outcome_codes() -> set[str]:
    """The codes that the services give to outcomes of messages: literals, and constants of the same module."""
    found = set()
    for _, tree in sources():
        named = constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OUTCOMES:
                for value in node.args[-1 if node.func.id == "MediaRefused" else 0 :][:1]:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found.add(value.value)
                    elif isinstance(value, ast.Name):
                        found.add(named.get(value.id, ""))
    return found - {""}


def test_every_code_is_raised() -> None:
    assert raised_codes() == set(ErrorCode.__members__)


def test_every_code_is_described() -> None:
    for code in ErrorCode:
        assert code.name == code.value.upper()
        assert 400 <= code.status < 600
        assert code.meaning.endswith("."), code
        assert code.advice.endswith("."), code
        assert code.example
        assert not code.example.endswith("."), code


def test_every_error_that_passes_says_when_to_try_again() -> None:
    """An error with the status 429 or 503 has further headers: Retry-After."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(code := node.args[0], ast.Attribute):
                continue
            if isinstance(code.value, ast.Name) and code.value.id == "ErrorCode":
                passes = ErrorCode[code.attr].status in (429, 503)
                assert not passes or "retry_after(" in ast.unparse(node), f"{path}:{node.lineno}"


def test_every_code_of_a_message_is_described_and_occurs() -> None:
    elsewhere = {NO_ANSWER, UNREACHABLE, "page_error", "error_…", *page_errors._REJECTED}
    elsewhere |= {CANCELLED, RESOLVED, WORKER_ENDED, NOT_ACKNOWLEDGED}
    assert "'bot_removed'" in (ROOT / "bisnesctl/bots/store.py").read_text()
    occurring = {"http_<status>" if code.startswith("http_") else code for code in outcome_codes()}
    families = {"http_<status>", "360dialog_<status>"}
    assert occurring | elsewhere | families | {"bot_removed"} == {*OURS, *HTTP, *WEB}


def test_a_code_has_one_meaning() -> None:
    assert not OURS.keys() & WEB.keys()
    assert not {str(code) for code in TABLE} & {*OURS, *WEB}


def test_every_transient_code_is_described() -> None:
    documented = {*OURS, *WEB, *map(str, TABLE)}
    assert {code for code in CODES if not code.startswith(("http_", "360dialog_"))} <= documented
