"""`bisnesctl clean-up`: delete old rows and files now."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import USE, AsJson, app, example, usable_deployment, usable_settings
from bisnesctl.errors import BisnesError, Conflict

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.retention.rules import Rule
    from bisnesctl.retention.run import Outcome
    from bisnesctl.settings import Settings


@app.command(
    "clean-up",
    rich_help_panel=USE,
    epilog=example("bisnesctl clean-up --dry-run", "bisnesctl clean-up", "bisnesctl clean-up --dry-run --json"),
)
@changes
def clean_up(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be deleted, and delete nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Delete old rows of the database now, and old files of this machine.

    The process `events` does the same for rows every hour, as the settings …_KEEP_DAYS say, and also removes stored
    files that no message has any more. Messages that wait or whose outcome is unknown, the history, contacts and bots
    are never deleted.
    """
    if dry_run:
        _show_rules(usable_settings(), json)
        return
    from bisnesctl.terminal import output

    deployment = usable_deployment()
    files = remove_files(deployment)
    try:
        outcome = delete_rows(deployment)
    except BisnesError:
        output.say(words(files, None))
        raise
    if json:
        failed, unfinished = (outcome.failed, outcome.unfinished) if outcome else ({}, True)
        output.print_json({"deleted": outcome.deleted if outcome else {}, "failed": failed, "unfinished": unfinished,
                           "old_files": files})  # fmt: skip
    else:
        output.say(words(files, outcome))
    if outcome is None:
        raise Conflict("another process is deleting old rows at this moment: `bisnesctl clean-up --dry-run` says when "
                       "that ended")  # fmt: skip
    check(outcome)


def remove_files(deployment: "Deployment") -> int:
    """Removes old files of this machine; returns their number."""
    from bisnesctl.lifecycle.clean_up import clean_up as remove

    return len(remove(deployment))


def delete_rows(deployment: "Deployment") -> "Outcome | None":
    """Deletes old rows; None if another process is at it."""
    from bisnesctl.database import postgres
    from bisnesctl.retention import rules
    from bisnesctl.retention.run import run

    rules.check(deployment.settings)
    with postgres.command_connection(deployment.settings) as connection:
        return run(connection, deployment.settings)


def check(outcome: "Outcome") -> None:
    """Raises `BisnesError` with the reasons if rows could not be deleted."""
    from bisnesctl.retention import records

    if outcome.failed:
        raise BisnesError(records.explain(outcome.failed))


def words(files: int, outcome: "Outcome | None") -> str:
    """The work of a clean-up in one line."""
    found = [f"{files} old file{'' if files == 1 else 's'}"]
    if outcome is not None:
        found += [f"{count} {name}" for name, count in outcome.deleted.items()]
    rest = (
        "; the rest, such as stored files, is removed by the process `events` within minutes"
        if outcome is not None and outcome.unfinished
        else ""
    )
    return f"removed {', '.join(found)}{rest}"


def _show_rules(settings: "Settings", as_json: bool) -> None:
    """Prints what would be deleted, and the last run."""
    from bisnesctl.database import postgres
    from bisnesctl.retention import records, rules
    from bisnesctl.retention.run import count
    from bisnesctl.terminal import output

    rules.check(settings)
    with postgres.command_connection(settings) as connection:
        last = records.last(connection)
        found = [(rule, rule.days(settings), number) for rule, number in count(connection, settings)]
    if as_json:
        output.print_json(
            {"last_run": None if last is None else last.as_json(), "rules": [_plain(*each) for each in found]}
        )
        return
    columns = [
        output.Column("kind"),
        output.Column("old", "right"),
        output.Column("kept", "right"),
        output.Column("setting"),
        output.Column("table"),
    ]
    rows = [
        (rule.name, output.escape(str(number)), f"{days} d", rule.setting or "-", rule.table)
        for rule, days, number in found
    ]
    output.print_table(columns, rows)
    output.say(f"last run: {output.escape(last.summary if last else 'none')}. See `bisnesctl help retention`")


def _plain(rule: "Rule", days: int, number: int | str) -> dict[str, object]:
    counted = isinstance(number, int)
    return {"kind": rule.name, "table": rule.table, "rows": rule.rows, "kept_days": days, "setting": rule.setting,
            "old": number if counted else None, "error": None if counted else number}  # fmt: skip
