"""`bisnesctl scale`: how many instances of a program run."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import RUN, AsJson, app, checked, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.processes.scales import Scale
    from bisnesctl.settings import Settings


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl scale", "bisnesctl scale api=3 meta=4", "bisnesctl scale meta=+1", "bisnesctl scale api=default"
    ),
)
@changes_if(lambda given: given["numbers"])
def scale(
    numbers: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=N", show_default=False, help="Such as api=3, meta=+1, or api=default."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even if memory or PostgreSQL's connections seem to be too few.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would start and stop, and what that costs.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Change how many API processes or Meta workers run; without NAME=N, show it.

    Instances are added or stopped; the others keep their pids, and no request is refused. One that is stopped finishes
    its current work first. A new one passes its self-test before it gets work.

    The number is remembered, also across restarts of everything, and overrides API_INSTANCES and META_INSTANCES in
    `.env`. `NAME=default` returns to `.env`.
    """
    from bisnesctl.lifecycle import scale as scaling
    from bisnesctl.processes import scales
    from bisnesctl.settings import load_partly
    from bisnesctl.terminal import output

    if numbers:
        settings = checked(load_partly())
        wanted = scaling.wanted_numbers(scales.apply(settings), numbers)
        if dry_run:
            for line in scaling.preview(settings, wanted, output.say, force):
                output.result(line)
            return
        scaling.scale(settings, wanted, output.say, force)
    elif dry_run:
        raise UsageError("--dry-run of what? Such as `bisnesctl scale api=3 --dry-run`")
    _show(load_partly().with_defaults(), json)


def _show(settings: "Settings", as_json: bool) -> None:
    """Prints the numbers. `settings`: those without the numbers that `scale` set."""
    from dataclasses import asdict

    from bisnesctl.processes import scales
    from bisnesctl.terminal import output

    found = scales.find(settings)
    running = _running(settings)
    if as_json:
        output.print_json([asdict(each) | {"running": running[each.program], "drift": each.drift} for each in found])
        return
    columns = [
        output.Column("program"),
        output.Column("wanted", "right"),
        output.Column("running", "right"),
        output.Column("from"),
        output.Column("difference", wraps=True),
    ]
    output.print_table(columns, [_cells(each, running[each.program]) for each in found])


def _running(settings: "Settings") -> "Counter[str]":
    """How many instances of each program run or are starting."""
    from bisnesctl.processes.deployment import as_started, open_deployment

    return Counter(each.program.name for each in open_deployment(as_started(settings)).active())


def _cells(scale: "Scale", running: int) -> list[str]:
    from bisnesctl.terminal.output import escape

    difference = scale.drift
    if running != scale.wanted:
        difference = difference or f"`bisnesctl scale {scale.program}={scale.wanted}` brings it about"
    return [scale.program, str(scale.wanted), str(running), escape(scale.origin), escape(difference)]
