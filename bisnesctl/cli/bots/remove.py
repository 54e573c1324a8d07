"""`bisnesctl bots remove`: removes a bot."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import Company, Phone, example, usable_settings
from bisnesctl.cli.bots.group import bots


@bots.command(epilog=example("bisnesctl bots remove --company 0128 --phone 1"))
@changes
def remove(
    company: Company,
    phone: Phone = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Remove it even if messages wait; they fail.")] = False,
) -> None:
    """Remove a bot with its credentials, or with its browser profile.

    Its messages stay readable. If messages still wait, --force is needed, and they fail.
    """
    from bisnesctl.bots import store
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        waiting = store.waiting(connection, company, phone)
        lost = f" and fail {waiting} messages" if waiting and force else ""
        if not yes and not typer.confirm(f"Remove bot {phone} of company {company}{lost}?", err=True):
            raise typer.Exit(1)
        failed = store.remove(connection, company, phone, force)
    output.say(f"removed bot {phone} of company {company}{f'; {failed} messages failed' if failed else ''}")
