"""`bisnesctl rollback`: back to the legacy single process."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import RUN, app, example, running_deployment
from bisnesctl.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.rollout.rollback import Situation

#: The words that may follow the command.
_CONFIRM, _RESUME = "confirm", "resume"


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl rollback", "bisnesctl rollback --dry-run", "bisnesctl rollback --confirm 120",
        "bisnesctl rollback confirm",
    ),
)  # fmt: skip
@changes
def rollback(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="[confirm]",
            show_default=False,
            help="`confirm`: the rollback stays. (`resume` continues one that was interrupted.)",
        ),
    ] = None,
    confirm_seconds: Annotated[
        float | None,
        typer.Option("--confirm", metavar="SECONDS", min=1, help="Undo it unless it is confirmed within this time."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Do not wait for messages that are being sent.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
) -> None:
    """Go back to the legacy single process, on port 8443.

    It is started beside the isolated processes. When it is healthy, every bot is handed over to it: they finish their
    current work and stop, and it delivers the messages that wait. This works even if the API keeps crashing, Redis or
    PostgreSQL is down. It may be repeated, and one that was killed is continued by the program `alerts`.

    With `--confirm 120` it is undone after 120 seconds, unless you type `bisnesctl rollback confirm` before: for
    somebody who may lose the connection.

    The release stays the same. `bisnesctl release rollback` returns to the release before.
    """
    from bisnesctl.cli.queue.group import operator
    from bisnesctl.cli.start import signals_as_interrupt
    from bisnesctl.rollout import rollback as room
    from bisnesctl.terminal import output

    if word not in (None, _CONFIRM, _RESUME):
        raise UsageError(f"unexpected argument {word}: type `bisnesctl rollback`, or `bisnesctl rollback {_CONFIRM}`")
    deployment = _deployment()
    if word == _CONFIRM:
        _confirm(deployment)
        return
    before = room.look(deployment)
    if dry_run:
        _show_plan(deployment, before)
        return
    if word == _RESUME and _hand_over_late(deployment):
        return
    with signals_as_interrupt():
        record = room.run(deployment, output.say, operator(), force, confirm_seconds)
    settings = deployment.settings
    closed = [settings.api_port, *([settings.meta_port] if settings.enable_meta else [])]
    output.say(
        f"[yellow]direct proxies, front-ends and Meta's webhook to port {settings.port}[/]: nothing listens on "
        f"{' and '.join(map(str, closed))} any more"
    )
    output.say(room.watch_queue(deployment, before.waiting))
    if record.confirm_seconds is not None:
        output.say(
            f"[b]it is undone in {record.confirm_seconds:g} s unless you confirm it[/]: `bisnesctl rollback {_CONFIRM}`"
        )
    output.say(f"rolled back; to return: [b]{record.way_back}[/]")


def _deployment() -> "Deployment":
    from bisnesctl.lifecycle import preflight
    from bisnesctl.settings import ESSENTIAL

    deployment = running_deployment(but=ESSENTIAL - {"api_port", "meta_host", "meta_port", "wwebjs_port"})
    settings = deployment.settings
    if settings.problems:
        raise ConfigError("\n".join(settings.problems.values()))
    if not settings.env_file.exists():
        deployment.check_started()
    preflight.check_secrets(settings)
    return deployment


def _confirm(deployment: "Deployment") -> None:
    from bisnesctl.rollout import rollback as room
    from bisnesctl.terminal import output

    record = room.confirm(deployment)
    if record is None:
        output.result("no rollback waits to be confirmed")
        return
    output.result(f"the rollback is confirmed and stays; to return: {record.way_back}")


def _hand_over_late(deployment: "Deployment") -> bool:
    """Whether all that was left of a rollback was the hand-over, which is done now."""
    from bisnesctl.rollout import duty
    from bisnesctl.rollout import rollback as room
    from bisnesctl.terminal import output

    record = duty.read_rollback(deployment.settings.run_dir)
    if record is None or not record.done:
        return record is None
    if record.hands_over:
        room.hand_over_late(deployment)
        output.say("PostgreSQL answers again: legacy serves all bots")
    return True


def _show_plan(deployment: "Deployment", before: "Situation") -> None:
    from bisnesctl.processes.topology import Mode, names_of
    from bisnesctl.rollout.rollback import way_back
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    settings = deployment.settings
    stopping = [each for each in deployment.unsettled() if Mode.LEGACY not in each.program.modes]
    bots = (
        f"{before.to_move} of {len(before.bots)} bots are handed over to it; {before.waiting} messages wait"
        if before.bots is not None
        else f"no bot can be handed over before PostgreSQL answers: {escape(before.reason)}"
    )
    output.print_pairs(
        [
            ("wanted", f"the legacy process serves everything on port {settings.port}"),
            ("is", f"{deployment.mode} runs" if not deployment.modes > {deployment.mode} else "both sides run"),
            ("1", f"legacy is started on port {settings.port}, beside the others"),
            ("2", bots),
            ("3", f"stopped after their current work: {names_of(stopping) or 'nothing, because nothing else runs'}"),
            ("back", way_back(deployment)),
        ]
    )
