"""Shows what a selection means before a command acts on it, and asks if the operator may not expect it."""

import sys

import typer

from bisnesctl.lifecycle.targets import Targets
from bisnesctl.processes.selection import Selection
from bisnesctl.processes.topology import EVERYTHING, names_of
from bisnesctl.terminal import output
from bisnesctl.terminal.output import escape

report = output.say


def remark(text: str) -> None:
    """Prints a remark below the result, if there is one."""
    if text:
        output.say(escape(text))


def confirm(action: str, selection: Selection, targets: Targets, yes: bool, dry_run: bool) -> bool:
    """Whether to do this to the targets. Shows them if selectors or `all` chose them.

    On a terminal it asks, if selectors chose several. `yes`: does not ask; `dry_run`: only shows them. Raises
    `typer.Exit` if the answer is no.
    """
    names = names_of(targets.chosen)
    if dry_run:
        output.result(names)
        return False
    if selection.has_selectors or EVERYTHING in selection.names:
        output.say(f"{escape(str(selection))} means {names}")
    if targets.left_out and EVERYTHING in selection.names:
        output.say(f"left out: {names_of(targets.left_out)}; type their names, or `--kind infrastructure`")
    asks = selection.has_selectors and len(targets.chosen) > 1 and not yes and sys.stdin.isatty()
    if asks and not typer.confirm(f"{action.capitalize()} these {len(targets.chosen)}?", err=True):
        raise typer.Exit(1)
    return True
