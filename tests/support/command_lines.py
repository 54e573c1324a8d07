"""Command lines of bisnesctl, as documents and messages name them, parsed as the tool parses them but not run."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from bisnesctl.__main__ import load_commands
from bisnesctl.cli.app import app
from bisnesctl.errors import BisnesError
from tests.support.documents import blocks

#: Stands for a value that a message fills in.
VALUE = "\ufffc"
#: The words that a value may be: none, one, or several.
MEANINGS = ("0", "1", "0 0", "", "status", "--company 0 --phone 0", "--json", "1h", "debug", "a=1", "api")
#: Words in capitals that stand for a value in a synopsis, and an ellipsis.
_PLACEHOLDER = re.compile(r"^(?:…|\.\.\.|\[?<?[A-Z][A-Z_-]*(?:=[A-Z]+)?>?\]?(?:…|\.\.\.)?)$")
#: The end of a command in a line of the shell, and in a sentence.
_END_IN_SHELL = re.compile(r"\s(?:\||&&|\|\||;|[0-9]?[<>]+|#)|\)$")
_END_IN_SENTENCE = re.compile(rf"{_END_IN_SHELL.pattern}|\s{{2,}}|[;,:.]?$|;\s|,\s")
#: Texts that begin like a command line and are none.
NO_COMMANDS = {"bisnesctl messages API"}
#: A word of a regular expression, which is no sentence.
_PATTERN = re.compile(r"\[\^|\(\?")
#: The error of a command line. typer has a click of its own, which it does not export.
ClickError: Any = typer.BadParameter.__mro__[2]
#: Options that print something and end.
_ASKING = {"--help", "-h", "--version", "-V"}


@dataclass(frozen=True, order=True)
class CommandLine:
    """One that is named somewhere."""

    words: str  # without `bisnesctl`
    place: str
    is_quoted: bool  # between backticks in a sentence, where the name of a command alone is enough

    def __str__(self) -> str:
        return f"{self.place}: bisnesctl {self.words.replace(VALUE, '…')}"


def root() -> Any:
    """The command line as click knows it."""
    load_commands()
    return typer.main.get_command(app)


def refusal(line: CommandLine, group: Any) -> str:
    """Why the tool does not understand a line, with any values for what is filled in; empty if it does."""
    if not line.words or line.words.startswith(VALUE):  # the command itself is filled in
        return ""
    meanings = MEANINGS if VALUE in line.words else ("",)
    reasons = [_refusal(line.words.replace(VALUE, meaning), line.is_quoted, group) for meaning in meanings]
    return "" if "" in reasons else reasons[0]


def _refusal(text: str, is_name: bool, group: Any) -> str:
    asks = not _ASKING.isdisjoint(text.split())
    try:
        words = [word.split("|")[0].strip("[]") for word in shlex.split(text) if word not in _ASKING]
    except ValueError as error:
        return str(error)
    name, context, command = "bisnesctl", None, group
    try:
        while hasattr(command, "commands"):
            if not words:
                return ""
            context = command.make_context(name, list(words), parent=context)
            words = [*getattr(context, "_protected_args", []), *context.args]
            if not words:
                return ""
            name, command, words = command.resolve_command(context, words)
        if not words and (is_name or asks):
            return ""
        command.make_context(name, list(words), parent=context)
    except ClickError as error:
        text = error.format_message()
        return "" if text.endswith("does not exist.") else text  # a file of the reader's
    except BisnesError as error:
        return str(error)
    return ""


def in_sources(root: Path) -> Iterator[CommandLine]:
    """The lines in the texts of the tool and the services."""
    known = set(globals()["root"]().commands)
    for folder in ("bisnesctl", "services"):
        for path in sorted((root / folder).rglob("*.py")):
            for number, text in _texts(ast.parse(path.read_text())):
                yield from _lines(text, f"{path.relative_to(root)}:{number}", known)


def in_text(text: str, place: str) -> Iterator[CommandLine]:
    """The lines of a document: between backticks, and in its blocks of shell."""
    shell = [block.text for block in blocks(text) if block.language == "sh"]
    for line in "\n".join(shell).replace("\\\n", " ").splitlines():
        yield from _command(line, place, is_quoted=False) if not line.startswith("#") else ()
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`\n]+)`", plain):
        yield from _command(span, place, is_quoted=True)


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module, with `VALUE` for what they are filled with. Those that stand side by side are one."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(each.value) if isinstance(each, ast.Constant) else VALUE for each in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, re.sub(r"\{[a-z_]+\}", VALUE, node.value.replace("{path}", "bisnesctl"))


def _lines(text: str, place: str, known: set[str]) -> Iterator[CommandLine]:
    if text in NO_COMMANDS or _PATTERN.search(text):
        return
    text = re.sub(r"\[b\](bisnesctl [^\[]*)\[/\]", r"`\1`", re.sub(r"\s*\n\s*", " ", text))
    for span in re.findall(r"`([^`]*)`", text):
        yield from _command(span, place, is_quoted=True)
    if text.startswith("bisnesctl "):
        yield from _command(text, place, is_quoted=False)
        return
    for found in re.finditer(r"(?:: |[\s/])bisnesctl ([a-z-]+)(.*)", re.sub(r"`[^`]*`", "", text)):
        if found[1] in known:
            words = _END_IN_SENTENCE.split(found[1] + found[2], maxsplit=1)[0]
            yield CommandLine(_marked(words), place, is_quoted=True)


def _command(line: str, place: str, is_quoted: bool) -> Iterator[CommandLine]:
    if found := re.search(r"(?:^|[\s/(])bisnesctl(\s+\S.*)", line):
        yield CommandLine(_marked(_END_IN_SHELL.split(found[1], maxsplit=1)[0]), place, is_quoted)


def _marked(words: str) -> str:
    """The words with `VALUE` for placeholders."""
    return " ".join(VALUE if _PLACEHOLDER.match(word) else word for word in words.split())
