"""`bisnesctl monit`: the live screen."""

import sys

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, app, example, running_deployment
from bisnesctl.errors import Unavailable, UsageError


@app.command(rich_help_panel=WATCH, epilog=example("bisnesctl monit"))
@reads
def monit() -> None:
    """Show a live screen: processes and bots, and why the selected one is as it is, with its events and logs.

    Keys: arrows, `j` and `k` select, `/` filters, `s` sorts, Enter shows all details, `w` why, `e` events, `l` logs,
    `S` starts, `X` stops, `R` restarts, `u` unblocks, `p` pauses or resumes, `?` explains the keys, `q` quits. Actions
    ask first. It works in 80x24 over ssh, and without the services, PostgreSQL, Redis and supervisord.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("monit needs a terminal. For scripts: `bisnesctl status --json`")
    try:
        from bisnesctl.monit.app import Monit
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise Unavailable(
            "the package textual is missing: run `scripts/provision` in the checkout, or `pip install textual`. "
            "Until then: `bisnesctl status --watch`"
        ) from None
    from bisnesctl.monit.source import Source

    running_deployment().check_started()
    Monit(Source()).run()
