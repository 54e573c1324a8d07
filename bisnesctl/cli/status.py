"""`bisnesctl status`: the state of the processes."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import (
    WATCH,
    AsJson,
    Bots,
    Companies,
    Kinds,
    Names,
    States,
    app,
    example,
    running_deployment,
    selection_of,
)

if TYPE_CHECKING:
    from bisnesctl.health.resource_usage import Sample
    from bisnesctl.processes.selection import Selection

#: Seconds between two drawings, unless others are named.
_WATCH_SECONDS = "2"
#: Seconds between two drawings, at least.
_MIN_WATCH_SECONDS = 0.5


class _StatusCommand(TyperCommand):
    """`--watch` may be followed by seconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Names the usual seconds after a `--watch` without any."""
        given = list(args)
        for place in reversed([index for index, word in enumerate(given) if word in ("--watch", "-w")]):
            following = given[place + 1] if place + 1 < len(given) else ""
            if not following.replace(".", "", 1).isdigit():
                given.insert(place + 1, _WATCH_SECONDS)
        return super().parse_args(ctx, given)


@app.command(
    rich_help_panel=WATCH,
    cls=_StatusCommand,
    epilog=example(
        "bisnesctl status",
        "bisnesctl status --state failed,blocked,down",
        "bisnesctl status --watch",
        "bisnesctl status --json",
    ),
)
@reads
def status(
    names: Names = None,
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B,…", help="These columns, such as name,health,memory,reason.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="List each session, healthy ones too, and each bot.")
    ] = False,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", "-w", metavar="[SECONDS]", min=_MIN_WATCH_SECONDS, help="Draw it again and again; q ends."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show every process: wanted and actual state, health, use of resources, what waits, and the reason of a trouble.

    Above that: the release, the machine, and settings that changed since the start. Below: the bots that need an
    operator. Works without the services, PostgreSQL and Redis. For an exit code, use `bisnesctl health`.
    """
    from bisnesctl.health.resource_usage import Sample

    sample = Sample()  # before the other modules are imported, which takes as long as it must be old

    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import status_view
    from bisnesctl.terminal.watch import watch as draw_again

    chosen = None if columns is None else status_view.columns_named(columns)
    selection = selection_of(names, company, bot, kind, state)
    every = every or bool(selection.names or selection.bots)
    if watch is not None and json:
        raise UsageError("--watch is for people, --json for programs: leave one of them out")
    if watch is None:
        _draw(selection, chosen, every, json, sample)
    else:
        running_deployment().check_started()
        draw_again(lambda: _draw(selection, chosen, every, json), watch)


def _draw(selection: "Selection", columns: Any, every: bool, as_json: bool, sample: "Sample | None" = None) -> None:
    from dataclasses import asdict

    from bisnesctl.terminal import output, status_view
    from bisnesctl.views.overview import overview

    deployment = running_deployment()
    found = overview(deployment, selection, sample)
    if as_json:
        output.print_json(asdict(found))
    else:
        status_view.show(found, columns, every)
        if not found.processes and not selection.is_empty and found.condition == "running":
            output.say("no process matches")
    deployment.check_started()
