"""`bisnesctl migrate`: applies the migrations that the database lacks."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import SETUP, app, example, usable_settings

if TYPE_CHECKING:
    from bisnesctl.database.migrations import MigrationState


@app.command(
    rich_help_panel=SETUP,
    epilog=example("bisnesctl migrate", "bisnesctl migrate --status", "bisnesctl migrate --dry-run"),
)
def migrate(
    status: Annotated[bool, typer.Option("--status", help="Only show which migrations were applied.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which migrations would be applied.")] = False,
) -> None:
    """Bring the database up to date. A migration that fails leaves no traces.

    A database of the old system is used as it is, and the old server can continue to use it. `start` migrates the
    embedded PostgreSQL too.
    """
    from bisnesctl.database import migrations, postgres
    from bisnesctl.terminal import output

    settings = usable_settings()
    postgres.check_usable(settings)
    if status:
        _show(migrations.status(settings.database_dsn))
        return
    if dry_run:
        lacking = migrations.pending(settings.database_dsn)
        output.say("these would be applied:" if lacking else "nothing to apply: the database is up to date")
        for name in lacking:
            output.result(name)
        return
    applied = migrations.apply(settings.database_dsn, report=output.say)
    output.say(f"{len(applied)} migrations applied" if applied else "the database was up to date already")


def _show(states: "list[MigrationState]") -> None:
    from bisnesctl.terminal import output

    columns = [output.Column("migration"), output.Column("applied"), output.Column("", wraps=True)]
    output.print_table(columns, [_cells(state) for state in states])


def _cells(state: "MigrationState") -> list[str]:
    note = (
        "[yellow]the file was changed after it was applied; the change has no effect here[/]" if state.changed else ""
    )
    return [state.migration.name, state.applied_at or "[yellow]pending[/]", note]
