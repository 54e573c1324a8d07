"""`bisnesctl wa-js`: the script that runs in the page of WhatsApp Web."""

from pathlib import Path
from typing import Annotated

import typer

from bisnesctl.cli.app import SETUP, app, example
from bisnesctl.errors import ExitCode

wajs = typer.Typer(no_args_is_help=True, help="Fetch and check wa-js, which runs in the page of WhatsApp Web.")
app.add_typer(wajs, name="wa-js", rich_help_panel=SETUP)


@wajs.command(epilog=example("bisnesctl wa-js fetch"))
def fetch() -> None:
    """Fetch the version of wa-js that was tested, unless it is there; `scripts/provision` does so as well."""
    from bisnesctl import wajs as store
    from bisnesctl.terminal import output

    output.result(str(store.fetch()))


@wajs.command(epilog=example("bisnesctl wa-js check", "bisnesctl wa-js check --file wppconnect-wa.js"))
def check(
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", exists=True, dir_okay=False, help="Another bundle than the one in use."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Load wa-js in a throw-away Chromium and see whether it has the functions and events that we use.

    Exit code 0 when it has and 5 when not. To use another version than the tested one: WA_JS_PATH.
    """
    from bisnesctl import wajs as store
    from bisnesctl.settings import load
    from bisnesctl.terminal import output
    from bisnesctl.terminal.findings import show

    found = store.check(file or store.bundle(load()))
    if json:
        output.print_json(found)
    else:
        show(f"wa-js {found['version']} (sha256 {found['sha256'][:12]}…)", found["findings"])
    raise typer.Exit(ExitCode.OK if all(each["ok"] for each in found["findings"]) else ExitCode.UNHEALTHY)
