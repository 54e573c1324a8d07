"""`bisnesctl wa-js`: the script that runs in the page of WhatsApp Web."""

from pathlib import Path
from typing import Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import SETUP, AsJson, Commands, app, example, usable_settings
from bisnesctl.errors import ExitCode

commands = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Fetch and check wa-js, which runs in the page of WhatsApp Web."
)
app.add_typer(commands, name="wa-js", rich_help_panel=SETUP)


@commands.command(epilog=example("bisnesctl wa-js fetch"))
@changes
def fetch() -> None:
    """Download the tested version of wa-js, unless it is present. `scripts/provision` does this too."""
    from bisnesctl import wajs
    from bisnesctl.terminal import output

    output.result(str(wajs.fetch()))


@commands.command(epilog=example("bisnesctl wa-js check", "bisnesctl wa-js check --file wppconnect-wa.js"))
@reads
def check(
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="PATH", exists=True, dir_okay=False, help="A bundle to check instead of the one in use."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Load wa-js in a temporary Chromium and check that it has the functions and events that we use.

    The exit code is 0 if nothing is missing, otherwise 5. To use another version than the tested one, set WA_JS_PATH.
    """
    from bisnesctl import wajs
    from bisnesctl.terminal import output
    from bisnesctl.terminal.findings import show

    found = wajs.check(file or wajs.bundle(usable_settings()))
    if json:
        output.print_json(found)
    else:
        show(f"wa-js {found['version']} (sha256 {found['sha256'][:12]}…)", found["findings"])
    raise typer.Exit(ExitCode.OK if all(each["ok"] for each in found["findings"]) else ExitCode.UNHEALTHY)
