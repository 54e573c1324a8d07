"""Shows what a selection means before a command acts on it, and asks if the operator may not expect it."""

import sys

import typer

from bisnesctl.formatting import listed
from bisnesctl.lifecycle.targets import Targets
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.selection import EVERYTHING, Selection
from bisnesctl.processes.topology import names_of
from bisnesctl.terminal import output
from bisnesctl.terminal.output import escape

report = output.say


def remark(text: str) -> None:
    """Prints a remark below the result, if there is one."""
    if text:
        output.say(escape(text))


def is_interactive() -> bool:
    """Whether a person can be asked: scripts and pipes never are."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> None:
    """Asks a question on the terminal. Raises `typer.Exit` unless the answer is yes."""
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def confirm_stop_of_all(deployment: Deployment, yes: bool) -> None:
    """Asks on a terminal whether everything is to stop, with what runs and waits. Raises `typer.Exit` if not.

    `yes`: does not ask. A supervisord that does not answer is ended without a question.
    """
    if yes or not is_interactive() or deployment.condition() is not Condition.RUNNING:
        return
    from bisnesctl.views import backlog

    running, found = len(deployment.active()), backlog.read(deployment.settings)
    waiting = sum(each.waiting for each in found.channels.values())
    runs = "1 process runs" if running == 1 else f"{running} processes run"
    waits = "1 message waits" if waiting == 1 else f"{waiting or 'no'} messages wait"
    ask(f"{runs}, {waits if found.counted else 'waiting messages are not known'}; stop all?")


def confirm_stop_of_base(deployment: Deployment, targets: Targets, yes: bool) -> None:
    """Asks on a terminal whether programs that others need are to stop. Raises `typer.Exit` if not."""
    base = [each for each in targets.chosen if each.program.is_base]
    needing = [each.name for each in deployment.active() if not each.program.is_base and each not in targets.chosen]
    if yes or not base or not needing or not is_interactive():
        return
    abouts = "; ".join(dict.fromkeys(f"{each.program.name}: {each.program.about}" for each in base))
    ask(f"{listed(needing)} need {names_of(base)} ({abouts}); stop {'it' if len(base) == 1 else 'them'}?")


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
    if selection.has_selectors and len(targets.chosen) > 1 and not yes and is_interactive():
        ask(f"{action.capitalize()} these {len(targets.chosen)}?")
    return True
