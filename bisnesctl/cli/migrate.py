"""`bisnesctl migrate`: applies the migrations that the database lacks."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import SETUP, app, example, usable_settings
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.migrations import MigrationState
    from bisnesctl.settings import Settings


@app.command(
    rich_help_panel=SETUP,
    epilog=example(
        "bisnesctl migrate",
        "bisnesctl migrate --status",
        "bisnesctl migrate --dry-run",
        "bisnesctl migrate --dry-run --sql",
    ),
)
@changes_if(lambda given: not given["status"])
def migrate(
    status: Annotated[bool, typer.Option("--status", help="Only show which migrations were applied.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show which migrations would be applied, and what they change.")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="With --dry-run: print the SQL instead.")] = False,
) -> None:
    """Bring the database up to date. A migration that fails leaves no traces.

    A database of the old system is used as it is, and the old server can continue to use it. If it has credentials,
    enter its ENCRYPTION_KEY in `.env` first. `start` migrates the embedded PostgreSQL too.
    """
    from bisnesctl.database import migrations, postgres
    from bisnesctl.terminal import output

    if sql and not dry_run:
        raise UsageError("--sql belongs to --dry-run: `bisnesctl migrate --dry-run --sql`")
    settings = usable_settings()
    postgres.check_usable(settings)
    if status:
        _show(migrations.status(settings.database_dsn))
        return
    if dry_run:
        _preview(settings, sql)
        return
    _check_key(settings)
    applied = migrations.apply(settings.database_dsn, report=output.say)
    output.say(f"{len(applied)} migrations applied" if applied else "the database was up to date already")


def _preview(settings: "Settings", sql: bool) -> None:
    """Shows the migrations that would be applied: their SQL, or the tables that they create and change."""
    from bisnesctl.database import migrations, postgres
    from bisnesctl.terminal import output

    lacking = [each.migration for each in migrations.status(settings.database_dsn) if each.applied_at is None]
    if sql:
        for migration in lacking:
            output.result(f"-- {migration.name}\n{migration.sql}")
        return
    output.say("these would be applied:" if lacking else "nothing to apply: the database is up to date")
    with postgres.command_connection(settings) as connection:
        existing = migrations.existing_tables(connection)
    for migration in lacking:
        created, changed = migrations.changed_tables(migration.sql)
        output.result(migration.name)
        if new := sorted(created - existing):
            output.result(f"  creates {', '.join(new)}")
        if locked := sorted(changed & existing):
            output.result(f"  changes, and locks for a moment, {', '.join(locked)}")


def _check_key(settings: "Settings") -> None:
    """Raises `ConfigError` if credentials are stored and ENCRYPTION_KEY is set and decrypts none of them."""
    from bisnesctl.bots import credentials
    from bisnesctl.database import postgres
    from bisnesctl.errors import ConfigError
    from bisnesctl.terminal import output

    with postgres.command_connection(settings) as connection:
        try:
            credentials.check(connection, settings, output.say)
        except ConfigError as error:
            if settings.encryption_key:
                raise
            output.say(f"[yellow]before you start[/]: {error}")


def _show(states: "list[MigrationState]") -> None:
    from bisnesctl.terminal import output

    columns = [output.Column("migration"), output.Column("applied"), output.Column("", wraps=True)]
    output.print_table(columns, [_cells(state) for state in states])


def _cells(state: "MigrationState") -> list[str]:
    note = (
        "[yellow]the file was changed after it was applied; the change has no effect here[/]" if state.changed else ""
    )
    return [state.migration.name, state.applied_at or "[yellow]pending[/]", note]
