"""No test fails because the machine is busy: a lint that finds the usual reasons."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import HANG_SECONDS

TESTS = Path(__file__).parents[2]
#: Folders and files that measure time.
EXEMPT = ("bench", "support/waiting.py", "unit/project/test_waiting.py")
CLOCKS = {"time.monotonic", "time.perf_counter"}
#: Methods whose first argument is a time limit in seconds.
WAITS = {"wait", "join", "result", "exception", "settimeout", "communicate", "acquire"}
#: The longest wait that counts as a pause, or as a check that nothing comes.
PAUSE_SECONDS = 2


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{name_of(value)}.{name}"
        case _:
            return "…"


def number(node: ast.expr | None) -> float | None:
    """The value of a literal number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    return None


def limit_of(call: ast.Call) -> float | None:
    """The time limit that a call is given as a literal number, unless it is a pause."""
    name, given = name_of(call.func), {word.arg: number(word.value) for word in call.keywords}
    if name.startswith(("requests.", "session.", "subprocess.")):
        return given.get("timeout")
    if name == "wait_until":
        return number(call.args[1]) if len(call.args) > 1 else given.get("seconds")
    if isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
        limit = given.get("timeout") if "timeout" in given else number(call.args[0]) if call.args else None
        return limit if limit is not None and limit > PAUSE_SECONDS else None
    return None


def reads_clock(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Call) and name_of(each.func) in CLOCKS for each in ast.walk(node))


def impatience(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, reason) of what a busy machine may break."""
    for node in ast.walk(tree):
        match node:
            case ast.Call() if (limit := limit_of(node)) is not None and limit < HANG_SECONDS:
                yield node.lineno, "a short limit: use HANG_SECONDS, or the default of wait_until"
            case ast.BinOp(left=left, op=ast.Add()) if reads_clock(left):
                yield node.lineno, "a deadline of its own: use wait_until or Patience"
            case ast.Assert(test=test) if reads_clock(test):
                yield node.lineno, "a duration is asserted: assert the result"
            case ast.Call() if name_of(node.func) == "settings" and any(
                word.arg == "deadline" for word in node.keywords
            ):
                yield node.lineno, "a deadline of Hypothesis: tests/conftest.py has none for all tests"


@pytest.mark.parametrize(
    "code",
    [
        "requests.get(url, timeout=5)", "subprocess.run(words, timeout=20)", "process.wait(20)", "thread.join(30)",
        "future.result(timeout=10)", "wait_until(found, 20)", "wait_until(found, seconds=20)", "client.settimeout(10)",
        "end = time.monotonic() + 30", "assert time.monotonic() - begun < 5", "settings(deadline=500)",
    ],
)  # fmt: skip
def test_what_a_busy_machine_may_break_is_found(code):
    assert list(impatience(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "requests.get(url, timeout=90)", "process.wait(HANG_SECONDS)", "stopped.wait(0.5)", "wait_until(found)",
        "wait_until(found, what=logs)", "', '.join(names)", "begun = time.monotonic()", "settings(max_examples=9)",
        "client.settimeout(None)",
    ],
)  # fmt: skip
def test_patience_is_not_reported(code):
    assert not list(impatience(ast.parse(code)))


def test_tests_wait_long_enough_for_a_busy_machine():
    paths = [path for path in TESTS.rglob("*.py") if not str(path.relative_to(TESTS)).startswith(EXEMPT)]
    assert not [
        f"{path.relative_to(TESTS)}:{line}: {reason}"
        for path in sorted(paths)
        for line, reason in impatience(ast.parse(path.read_text()))
    ]
