"""`bisnesctl alerts`: what is wrong now, who is notified of it, and silences."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads, sends
from bisnesctl.cli.app import WATCH, AsJson, Commands, app, example, running_deployment, usable_settings
from bisnesctl.errors import ConfigError, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bisnesctl.alerts.incidents import Incident
    from bisnesctl.alerts.overview import AlertOverview
    from bisnesctl.alerts.silences import Silence

alerts = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Show what is wrong, test the notifications, and silence them for a time."
)
app.add_typer(alerts, name="alerts", rich_help_panel=WATCH)

#: Seconds of the longest silence.
MAX_SILENCE_SECONDS = 366 * 86400.0
_COLOURS = {"critical": "red", "warning": "yellow"}
TheAlert = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="An alert such as process_health[api-0], a signal such as process_health, or a pattern with *.",
        show_default=False,
    ),
]


@alerts.command("list", epilog=example("bisnesctl alerts list", "bisnesctl alerts list --json"))
@reads
def list_alerts(json: AsJson = False) -> None:
    """List the alerts that fire, are pending, or were resolved within a day, the silences, and who is notified.

    Works without the services, PostgreSQL and Redis.
    """
    from bisnesctl.alerts import overview
    from bisnesctl.terminal import output

    deployment = running_deployment()
    deployment.check_started()
    found = overview.find(deployment)
    if json:
        output.print_json(overview.plain(found))
    else:
        _show(found)


@alerts.command("test", epilog=example("bisnesctl alerts test"))
@sends
def test() -> None:
    """Send a test message to every address in ALERT_URLS and to ALERT_COMMAND, and say what became of it."""
    import time

    from bisnesctl.alerts import dispatch, messages
    from bisnesctl.alerts.targets import find_targets
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    settings = usable_settings()
    targets = find_targets(settings)
    if not targets:
        raise ConfigError(f"nobody is notified: set ALERT_URLS or ALERT_COMMAND in {settings.env_file}")
    message = messages.test_message(str(settings.home), time.time())
    failed = 0
    for target, error in dispatch.send_now(targets, message, settings.run_dir):
        failed += bool(error)
        outcome = f"[red]failed[/]: {escape(error)}" if error else "[green]accepted[/]"
        output.out().print(f"{escape(target.label)} {outcome}", soft_wrap=True)
    if failed:
        raise Unavailable(
            f"{failed} of {len(targets)} did not accept the message: see ALERT_URLS in {settings.env_file}"
        )


@alerts.command(
    "silence",
    epilog=example(
        "bisnesctl alerts silence process_health --for 2h --reason 'new release'",
        "bisnesctl alerts silence 'disk_health[/]' --for 30m",
        "bisnesctl alerts silence '*' --for 10m",
    ),
)
@changes
def silence(
    name: TheAlert,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, such as 30m, 2h or 1d.")] = "2h",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who look later.")] = "",
) -> None:
    """Notify nobody of some alerts for a time. They are evaluated and listed all the same."""
    import time

    from bisnesctl import moments
    from bisnesctl.alerts import overview, silences, state_file
    from bisnesctl.alerts.silences import Silence
    from bisnesctl.processes.stop_records import operator
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = running_deployment()
    deployment.check_started()
    now, seconds = time.time(), moments.parse_duration(duration)
    if not seconds or seconds > MAX_SILENCE_SECONDS:
        raise UsageError(f"--for {duration}: give a duration of up to a year, such as 30m, 2h or 1d")
    new = Silence(name, now + seconds, operator(), now, reason)
    overview.check_name(new, state_file.read(deployment.settings.run_dir).incidents)
    silences.add(deployment.settings.run_dir, new)
    output.say(
        f"{escape(name)} notifies nobody until {moments.shown(new.until)}; `bisnesctl alerts unsilence` ends that"
    )


@alerts.command("unsilence", epilog=example("bisnesctl alerts unsilence process_health"))
@changes
def unsilence(name: TheAlert) -> None:
    """End a silence before its time. `bisnesctl alerts list` shows the silences."""
    from bisnesctl.alerts import silences
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = running_deployment()
    deployment.check_started()
    run_dir = deployment.settings.run_dir
    if not silences.remove(run_dir, name):
        known = ", ".join(each.name for each in silences.read(run_dir)) or "none"
        raise UsageError(f"there is no silence of {name}. There are: {known}")
    output.say(f"{escape(name)} notifies again")


def _show(found: "AlertOverview") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    for line in found.remarks:
        output.out().print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    columns = [
        output.Column("state"),
        output.Column("alert"),
        output.Column("severity", from_width=100),
        output.Column("since", from_width=100),
        output.Column("summary", wraps=True),
    ]
    if found.incidents:
        output.print_table(columns, [_cells(each, found) for each in found.incidents])
    else:
        output.say("no alert fires, and none did within a day")
    for each in found.silences:
        output.out().print(escape(_silence_text(each)), soft_wrap=True)
    for target in found.targets:
        output.out().print(escape(target.text), soft_wrap=True)


def _cells(incident: "Incident", found: "AlertOverview") -> "Sequence[str]":
    from bisnesctl import moments
    from bisnesctl.alerts.overview import note
    from bisnesctl.terminal.output import escape

    colour = _COLOURS[incident.severity] if incident.active else "dim"
    more = note(incident, found.silences)
    return [
        f"[{colour}]{incident.stage}[/]",
        escape(incident.name),
        incident.severity.value,
        moments.shown(incident.began_at),
        escape(f"{incident.summary}{f' ({more})' if more else ''}"),
    ]


def _silence_text(each: "Silence") -> str:
    from bisnesctl import moments

    reason = f": {each.reason}" if each.reason else ""
    return f"silenced until {moments.shown(each.until)}: {each.name}, by {each.by}{reason}"
