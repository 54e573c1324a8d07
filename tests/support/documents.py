"""The documents that people read, and the blocks of code in them."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What a user reads: these are checked word by word, and their blocks are run.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: All documents; their links and commands are checked.
DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>[^\n]*) -->\n *)?```(?P<language>[a-z]+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of code."""

    language: str
    text: str
    mark: str  # the comment in front of it: "background", or "not run: " and the reason

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def in_background(self) -> bool:
        return self.mark == "background"


def blocks(document: str) -> Iterator[Block]:
    """Every fenced block of a document, in order."""
    for found in _BLOCK.finditer(document):
        yield Block(found["language"], textwrap.dedent(found["text"]), found["mark"] or "")


def name(path: Path) -> str:
    """A document's path below the project, as tests are named by it."""
    return str(path.relative_to(ROOT))
