"""The log events of the services, the guard, the alerts and the tool: every call of a logger, found in the source.

`collect` serves the test of the names, and can serve documentation of the events.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The form of a name: `subject.what_happened`, in snake case.
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
#: The methods of a logger, with the level that each writes.
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
#: Arguments of a logger that are no fields.
OPTIONS = frozenset({"exc_info"})


@dataclass(frozen=True, order=True)
class LogEvent:
    """One call of a logger."""

    name: str | None  #: None if it is not a literal.
    level: str
    fields: tuple[str, ...]  #: The named ones, in their order; `**` for further ones.
    path: str  #: The file, below the repository.
    line: int

    @property
    def has_stable_name(self) -> bool:
        """Whether the name is a literal of the right form."""
        return self.name is not None and NAME.fullmatch(self.name) is not None


def collect() -> list[LogEvent]:
    """The log events of all Python files, by path and line."""
    paths = [path for folder in ("bisnesctl", "services") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [event for path in paths for event in events_of(path, ROOT)]


def events_of(path: Path, root: Path = ROOT) -> list[LogEvent]:
    """The log events of one file, by line."""
    where = str(path.relative_to(root))
    return sorted(_events(ast.parse(path.read_text()), where), key=lambda event: event.line)


def _events(tree: ast.AST, path: str) -> Iterator[LogEvent]:
    for node in _nodes(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method in LEVELS:
                fields = tuple(word.arg or "**" for word in node.keywords if word.arg not in OPTIONS)
                for name in _names(node.args[0]) if node.args else [None]:
                    yield LogEvent(name, LEVELS[method], fields, path, node.lineno)
            case ast.Call(func=ast.Name(id="LoggedCondition"), args=[began, ended]):
                yield from (LogEvent(name, "warning", ("reason",), path, node.lineno) for name in _names(began))
                yield from (LogEvent(name, "info", (), path, node.lineno) for name in _names(ended))


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, except those of `LoggedCondition`, whose names are those of its instances."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.ClassDef) and node.name == "LoggedCondition"):
            yield node
            yield from _nodes(node)


def _names(node: ast.expr) -> list[str | None]:
    """The names that an argument may be; None for one that is no literal."""
    match node:
        case ast.Constant(value=str(name)):
            return [name]
        case ast.IfExp(body=one, orelse=other):
            return [*_names(one), *_names(other)]
        case _:
            return [None]
