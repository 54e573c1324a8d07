"""The pages of documentation that `bisnesctl help` shows: `docs/`, inside an installed package or in a checkout."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import UsageError

#: The kinds of pages, in the order in which `bisnesctl help` lists them: folder and title.
KINDS = {
    "tutorials": "Tutorials",
    "how-to": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
    "develop": "Development",
}
#: How similar a topic must be to a misspelt one to be suggested, from 0 to 1.
SIMILARITY = 0.6
#: How many pages an unknown topic gets as suggestions, at most.
MAX_SUGGESTIONS = 4

_COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:)([^)#]*)(?:#[^)]*)?\)")
_HEADING = re.compile(r"^#+ .*$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page. `topic` is its file's name without the ending; it is unique among all pages."""

    topic: str
    kind: str
    path: Path

    @property
    def text(self) -> str:
        """The Markdown source without comments, which are for tests."""
        return _COMMENT.sub("", self.path.read_text("utf-8"))

    @property
    def summary(self) -> str:
        """The sentence below the title."""
        paragraph = self.text.split("\n\n")[1]
        return re.split(r"(?<=[.:])\s", " ".join(paragraph.split()))[0].rstrip(":")


def pages() -> list[Page]:
    """Every page, in the order of `KINDS`."""
    root = paths.shipped_folder("docs")
    found = [Page(path.stem, kind, path) for kind in KINDS for path in sorted((root / kind).glob("*.md"))]
    runbooks, glossary = Page("runbooks", "how-to", root / "runbooks.md"), root / "glossary.md"
    return [*found, runbooks, Page("glossary", "reference", glossary)]


def find(words: Sequence[str], commands: Sequence[str] = ()) -> Page:
    """The page of a topic, however it is hyphenated. `commands`: names that have a `--help` of their own.

    Raises `UsageError` with the topics that may be meant.
    """
    wanted = "-".join(words).lower().removesuffix(".md").rpartition("/")[2]
    found = pages()
    for page in found:
        if _plain(page.topic) == _plain(wanted):
            return page
    raise UsageError(_unknown(" ".join(words), found, commands))


def for_terminal(page: Page) -> str:
    """Its Markdown with links to other pages as commands, since a terminal cannot follow them."""
    topics = {each.topic for each in pages()}

    def as_command(link: re.Match[str]) -> str:
        topic = Path(link[2]).stem
        return f"{link[1]} (`bisnesctl help {topic}`)" if topic in topics and topic != page.topic else link[1]

    return _LINK.sub(as_command, page.text)


def _plain(topic: str) -> str:
    return re.sub(r"[^a-z0-9]", "", topic)


def _unknown(wanted: str, found: list[Page], commands: Sequence[str]) -> str:
    topics = [page.topic for page in found]
    meant = difflib.get_close_matches("-".join(wanted.lower().split()), topics, MAX_SUGGESTIONS, SIMILARITY)
    meant += [topic for topic in _mentioning(wanted, found) if topic not in meant]
    hints = [f"see {', '.join(f'`bisnesctl help {topic}`' for topic in meant[:MAX_SUGGESTIONS])}"] if meant else []
    if wanted in commands:
        hints.insert(0, f"`bisnesctl {wanted} --help` describes the command")
    return "; ".join([f"there is no page {wanted}", *hints, "`bisnesctl help` lists all pages"])


def _mentioning(wanted: str, found: list[Page]) -> list[str]:
    """The topics of the pages that contain all words: guides first, then pages with the words in a heading."""
    words = wanted.lower().split()
    ranked = []
    for page in found:
        text = page.text.lower()
        if all(word in text for word in words):
            headings = " ".join(_HEADING.findall(text))
            found_in = sum(word in headings for word in words)
            score = (page.kind == "how-to", found_in, sum(text.count(word) for word in words))
            ranked.append((score, page.topic))
    return [topic for _, topic in sorted(ranked, reverse=True)]
