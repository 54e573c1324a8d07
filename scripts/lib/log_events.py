"""The log events of the services: every call of a logger, found in the source.

`collect` is for the test of the names, and for whatever documents the events.
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


def collect(folder: Path = ROOT / "services", root: Path = ROOT) -> list[LogEvent]:
    """The log events of all Python files in a folder, by path and line."""
    return [event for path in sorted(folder.rglob("*.py")) for event in events_of(path, root)]


def events_of(path: Path, root: Path = ROOT) -> list[LogEvent]:
    """The log events of one file, by line."""
    where = str(path.relative_to(root))
    return sorted(_events(ast.parse(path.read_text()), where), key=lambda event: event.line)


def _events(tree: ast.AST, path: str) -> Iterator[LogEvent]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method in LEVELS:
                name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
                fields = tuple(word.arg or "**" for word in node.keywords if word.arg not in OPTIONS)
                yield LogEvent(name if isinstance(name, str) else None, LEVELS[method], fields, path, node.lineno)
