"""`docs/reference/cli.md`: every command with its arguments and options, from the Typer app."""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from markdown_table import table
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from bisnesctl.__main__ import load_commands
from bisnesctl.cli.app import app

INTRODUCTION = """\
# Command line

Every command of `bisnesctl` with its arguments and options.

`bisnesctl --help` lists the commands, and `--help` after a command describes it. Results go to the standard output; \
progress and errors go to the standard error output. `--json` prints results for other programs. See also the \
[exit codes](exit-codes.md) and the [settings](settings.md).
"""

#: Words for the values of options that declare none.
METAVARS: dict[Any, str] = {str: "TEXT", int: "N", float: "N", Path: "PATH"}

Command = TyperCommand | TyperGroup


def render() -> str:
    """The page."""
    load_commands()
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)  # noqa: S101
    sections = [_section(path, command) for path, command in _commands("bisnesctl", root)]
    return "\n".join([INTRODUCTION, *sections])


def _commands(path: str, group: TyperGroup) -> Iterator[tuple[str, Command]]:
    """Every command below a group with the words by which it is typed, in the order of `--help`."""
    for name in group.commands:
        command: Any = group.commands[name]
        if not command.hidden:
            yield f"{path} {name}", command
            if isinstance(command, TyperGroup):
                yield from _commands(f"{path} {name}", command)


def _section(path: str, command: Command) -> str:
    level = "##" if path.count(" ") == 1 else "###"
    parts = [f"{level} {path}", _unwrapped(command.help or "")]
    if isinstance(command, TyperCommand):
        parts += [f"Usage: `{_usage(path, command)}`", *_parameters(command)]
        if command.epilog:
            parts.append(_examples(command.epilog))
    return "\n\n".join(parts) + "\n"


def _unwrapped(text: str) -> str:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _usage(path: str, command: TyperCommand) -> str:
    shown = _shown(command)
    arguments = [_metavar(each, command) for each in shown if isinstance(each, TyperArgument)]
    options = ["[OPTIONS]"] if any(isinstance(each, TyperOption) for each in shown) else []
    return " ".join([path, *options, *filter(None, arguments)])


def _shown(command: TyperCommand) -> list[TyperArgument | TyperOption]:
    found = [each for each in command.params if isinstance(each, TyperArgument | TyperOption)]
    return [each for each in found if not each.hidden and each.name != "help"]


def _parameters(command: TyperCommand) -> Iterator[str]:
    if shown := _shown(command):
        yield table(("parameter", "meaning"), [(_name(each, command), _help(each)) for each in shown])


def _name(parameter: TyperArgument | TyperOption, command: TyperCommand) -> str:
    if isinstance(parameter, TyperArgument):
        return f"`{_metavar(parameter, command)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter, command)}"
    return ", ".join(f"`{each}{value}`" for each in [*parameter.opts, *parameter.secondary_opts])


def _metavar(parameter: TyperArgument | TyperOption, command: TyperCommand) -> str:
    """The word for a value: the declared one, else the choices or the kind of the annotated type."""
    if parameter.metavar is not None:
        return str(parameter.metavar)
    hint = get_type_hints(inspect.unwrap(command.callback or str))[str(parameter.name)]
    kinds = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    if issubclass(kinds[0], Enum):
        return "|".join(each.value for each in kinds[0])
    return METAVARS[kinds[0]]


def _help(parameter: TyperArgument | TyperOption) -> str:
    text = " ".join((parameter.help or "").split())
    if parameter.required:
        return f"{text} Required.".strip()
    default = parameter.default
    if default in (None, "", False) or parameter.show_default is False:
        return text
    return f"{text} Default: `{default}`.".strip()


def _examples(epilog: str) -> str:
    lines = re.findall(r"`([^`]+)`", epilog)
    return "Examples:\n\n" + "\n".join(f"- `{line}`" for line in lines)
