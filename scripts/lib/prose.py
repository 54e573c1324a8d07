"""Checks the words of documents, docstrings, comments and messages; `--help` consists of docstrings and strings.

    prose.py           every file except those that prose.toml lists as excluded or unchecked
    prose.py PATH...   these files and folders, unchecked ones as well
    prose.py --count   the number of hits in each folder, unchecked ones as well

prose.toml has the words. Exits with 1 if there is a hit. Ignores code, text in backticks and single words in quotes.
"""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = Path(__file__).with_suffix(".toml")
#: Folders of any depth that are fetched or generated.
SKIPPED_FOLDERS = {"node_modules", "var", "build", "dist", "__pycache__"}
#: Replaces each character that is not prose, so that the words around it are not read as neighbours.
MASK = "\N{CURRENCY SIGN}"
#: Matches in front of the first word of a sentence, a list item or a table cell. Headings are not sentences.
SENTENCE_START = r"(?:\A|[.!?:|]\s|\n\s*\n|\n\s*(?:[-*>|]|\d+\.)\s)[\s*_|]*"


@dataclass(frozen=True)
class Region:
    """A piece of a file, as long as in the file, with everything masked that is not prose."""

    start: int
    text: str


@dataclass(frozen=True, order=True)
class Hit:
    path: Path
    line: int
    words: str
    advice: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.words}": write {self.advice}'


# --- Where the prose is ------------------------------------------------------------------------------------------

_CODE = r"(?P<tick>(?<!`)`+)(?!`)(?:[^\n]|\n(?!\s*\n))+?(?<!`)(?P=tick)(?!`)"
_MENTIONS = re.compile(_CODE + r"|\"[\w'-]+\"|“[\w'-]+”")
_MARKUP = re.compile(
    "|".join(
        (
            r"^(?P<indent> *)(?P<fence>```+|~~~+).*?^(?P=indent)(?P=fence)",
            _CODE,
            r"<!--.*?-->",
            r"<(?P<block>script|style)\b.*?</(?P=block)>",
            r"</?[a-z][^<>]*>",
            r"\{[{%#].*?[%#}]\}",  # Jinja
            r"(?<=\])\([^)\s]*\)",  # where a link leads
            r"https?:\S+",
        )
    ),
    re.MULTILINE | re.DOTALL,
)
_SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|FROM|WHERE|CREATE|ALTER|RETURNING|ON CONFLICT|AND|NULL)\b")
_PLACEHOLDERS = re.compile(r"\$?\{[^{}]*\}|%\(\w+\)s")
_STRING_SYNTAX = re.compile(r"\b[rbfuRBFU]{1,2}(?=[\"'])|\"|(?<!\w)'|'(?!\w)|\\\w|\\\n|^`|`$")
_SENTENCE = re.compile(r"[A-Za-z]{2}.*\S\s+\S|\S\s+\S.*[A-Za-z]{2}", re.DOTALL)
_COMMENT_SYNTAX = re.compile(r"^\s*(?:#:?|//|/?\*+/?|--)|\s*\*/$", re.MULTILINE)
_SHELL_TOKENS = re.compile(r"(?:(?<=\s)|^)#[^\n]*(?:\n[ \t]*#[^\n]*)*|\"(?:\\.|[^\"\\])*\"", re.MULTILINE)
_JAVASCRIPT_TOKENS = re.compile(
    r"//[^\n]*(?:\n[ \t]*//[^\n]*)*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|`(?:\\.|[^`\\])*`", re.DOTALL
)


def of_document(text: str) -> Iterator[Region]:
    """The text of Markdown or HTML."""
    yield Region(0, _mask(_MENTIONS, _mask(_MARKUP, text)))


def of_python(text: str) -> Iterator[Region]:
    """Docstrings, comments and strings with a space in them; of SQL, its comments alone."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for first, last in _comment_blocks(text):
        begin, end = starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1]
        yield _comment(begin, text[begin:end])
    for node in _strings(ast.parse(text)):
        begin = _offset(text, starts, node.lineno, node.col_offset)
        end = _offset(text, starts, node.end_lineno or node.lineno, node.end_col_offset or 0)
        yield from _string(begin, text[begin:end])


def of_javascript(text: str) -> Iterator[Region]:
    """Comments and strings with a space in them."""
    for token in _JAVASCRIPT_TOKENS.finditer(text):
        if token[0].startswith("/"):
            yield _comment(token.start(), token[0])
        else:
            yield from _string(token.start(), token[0])


def of_shell(text: str) -> Iterator[Region]:
    """Comments and double-quoted strings of a shell script, or of a configuration file with comments of that kind."""
    for token in _SHELL_TOKENS.finditer(text):
        if token[0].startswith("#"):
            yield _comment(token.start(), token[0])
        else:
            yield from _string(token.start(), token[0])


def _comment_blocks(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The first and the last position of comments; those on consecutive lines at one column are one."""
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start != (block[-1].start[0] + 1, block[-1].start[1]):
            yield block[0].start, block[-1].end
            block = []
        block.append(token)
    if block:
        yield block[0].start, block[-1].end


def _strings(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


def _offset(text: str, starts: list[int], line: int, column: int) -> int:
    """`column` counts bytes."""
    return starts[line - 1] + len(text[starts[line - 1] : starts[line]].encode()[:column].decode())


def _comment(start: int, source: str) -> Region:
    return Region(start, _mask(_MENTIONS, _mask(_COMMENT_SYNTAX, source, " ")))


def _string(start: int, source: str) -> Iterator[Region]:
    if _SQL.search(source):
        for comment in re.finditer(r"--[^\n]*(?:\n[ \t]*--[^\n]*)*", source):
            yield _comment(start + comment.start(), comment[0])
        return
    text = _mask(_PLACEHOLDERS, source)
    if text.startswith('"""'):
        text = _mask(_MENTIONS, text)  # elsewhere, quotes delimit strings
    text = _mask(_MENTIONS, _mask(_STRING_SYNTAX, text, " "))
    if _SENTENCE.search(text):
        yield Region(start, text)


def _mask(pattern: re.Pattern[str], text: str, character: str = MASK) -> str:
    return pattern.sub(lambda found: re.sub(r"[^\n]", character, found[0]), text)


# --- The check ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A phrase to avoid, as the pattern's only group, and what to write instead."""

    pattern: re.Pattern[str]
    advice: str


class Vocabulary:
    """The rules of prose.toml. A space in a phrase matches any white space."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.excluded: list[str] = content["excluded"]
        self.unchecked: list[str] = content["unchecked"]
        self._allowed = re.compile(_phrase("|".join(content["allowed"])), re.IGNORECASE)
        self._rules = [
            *(Rule(re.compile(_phrase(each), re.IGNORECASE), advice) for each, advice in content["words"].items()),
            *(
                Rule(re.compile(rf"{SENTENCE_START}{_phrase(each)}(?![^.!?|]*\?)"), advice)
                for each, advice in content["sentence_starts"].items()
            ),
        ]

    def hits(self, text: str) -> Iterator[tuple[int, int, str]]:
        """The begin and end of each phrase to avoid, and the advice."""
        text = _mask(self._allowed, text)
        for rule in self._rules:
            for found in rule.pattern.finditer(text):
                yield *found.span(1), rule.advice


def _phrase(words: str) -> str:
    return r"(?<![\w-])({})(?![\w-])".format(words.replace(" ", r"\s+"))


def kind_of(path: Path) -> Callable[[str], Iterable[Region]] | None:
    """The function that finds the prose of a file; None if the file is not checked."""
    match path.suffix:
        case ".md" | ".html":
            return of_document
        case ".py":
            return of_python
        case ".js" | ".mjs":
            return of_javascript
        case ".sh" | ".j2" | ".cron" | ".example":
            return of_shell
    with path.open("rb") as file:
        first = file.readline(100)
    return of_shell if re.match(rb"#!.*[ /](ba)?sh$", first.strip()) else None


def check(path: Path, vocabulary: Vocabulary) -> Iterator[Hit]:
    """The hits of a file, whose path is relative to the root."""
    if kind := kind_of(ROOT / path):
        text = (ROOT / path).read_text()
        for region in kind(text):
            for start, end, advice in vocabulary.hits(region.text):
                words = text[region.start + start : region.start + end]
                yield Hit(path, text.count("\n", 0, region.start + start) + 1, " ".join(words.split()), advice)


def files_below(path: Path) -> Iterator[Path]:
    """The files of a folder and its folders, without hidden ones; a file alone. Paths are relative to the root."""
    if (ROOT / path).is_file():
        yield path
        return
    for entry in sorted((ROOT / path).iterdir()):
        if not entry.name.startswith(".") and entry.name not in SKIPPED_FOLDERS and not entry.is_symlink():
            yield from files_below(entry.relative_to(ROOT))


def main(arguments: list[str]) -> int:
    vocabulary = Vocabulary(tomllib.loads(VOCABULARY.read_text()))
    paths = [Path(each).resolve().relative_to(ROOT) for each in arguments if each != "--count"]
    skipped = vocabulary.excluded if arguments else vocabulary.excluded + vocabulary.unchecked
    hits = {
        hit
        for path in paths or [Path()]
        for file in files_below(path)
        if not any(file.is_relative_to(each) for each in skipped)
        for hit in check(file, vocabulary)
    }
    if "--count" in arguments:
        counts = Counter(hit.path if hit.path.suffix == ".md" else hit.path.parent for hit in hits)
        print(*(f"{count:5} {place}" for place, count in sorted(counts.items())), sep="\n")
    else:
        sys.stdout.writelines(f"{hit}\n" for hit in sorted(hits))
    return int(bool(hits))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
