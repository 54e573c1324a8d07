"""The command group `bisnesctl bots`."""

import typer

from bisnesctl.cli.app import USE, Commands, app

bots = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Add, verify, list and remove bots: the phone numbers that send."
)
app.add_typer(bots, name="bots", rich_help_panel=USE)
