"""`bisnesctl rollout compare`: copies of messages in simulators, beside their originals."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import AsJson, example, usable_settings
from bisnesctl.cli.queue.group import duration
from bisnesctl.cli.rollout.group import rollout
from bisnesctl.errors import Unhealthy

if TYPE_CHECKING:
    from datetime import datetime

    from bisnesctl.database.postgres import Connection
    from bisnesctl.rollout.trial import Simulators

#: Seconds between two looks for messages that were accepted.
_POLL_SECONDS = 2.0


@rollout.command(
    epilog=example("bisnesctl rollout compare --percent 10 --since 1h", "bisnesctl rollout compare --for 10m --json")
)
@changes
def compare(
    percent: Annotated[
        float, typer.Option(min=0.01, max=100, metavar="P", help="The share of messages that is copied, in percent.")
    ] = 10.0,
    since: Annotated[
        str, typer.Option(metavar="DURATION", help="Messages accepted within this time: 90s, 30m, 2h.")
    ] = "1h",
    wait: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="Copy messages that are accepted from now on for this time."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="At most N messages.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Copy a share of the accepted messages into simulators, by the code of this release, and compare the outcomes.

    A copy reaches no provider and no person: the simulators are part of a process that opens no connection and has no
    credential. A copy is in no history, quota or event. Texts and templates of Meta and 360dialog are copied. Each
    message is copied once; copies are kept for 7 days. The exit code is 5 if copies failed whose originals were sent.
    """
    from datetime import timedelta

    from bisnesctl.database import postgres
    from bisnesctl.rollout import trial
    from bisnesctl.terminal import output
    from bisnesctl.terminal.trial_view import show

    seconds, following = duration("--since", since) or 0.0, duration("--for", wait)
    with postgres.command_connection(usable_settings()) as connection:
        ((now,),) = postgres.query(connection, "SELECT now()")
        with trial.simulators() as sender:
            begin = now if following else now - timedelta(seconds=seconds)
            _copy(connection, sender, begin, percent, limit, following)
        found = trial.compare(connection, now)
    if as_json:
        output.print_json(found.as_json())
    else:
        show(found)
    if found.copy_failed:
        raise Unhealthy(f"copies that failed although their originals were sent: {len(found.copy_failed)}")


def _copy(
    connection: "Connection", sender: "Simulators", begin: "datetime", percent: float, limit: int,
    following: float | None,
) -> None:  # fmt: skip
    import time

    from bisnesctl.rollout import trial
    from bisnesctl.terminal import output

    end, done = time.monotonic() + (following or 0.0), 0
    while True:
        done += trial.copy_messages(connection, sender, begin, percent, limit - done)
        remaining = end - time.monotonic()
        if remaining <= 0 or done >= limit:
            break
        time.sleep(min(_POLL_SECONDS, remaining))
    if done >= limit:
        output.say(f"{done} messages are the most that --limit allows; there may be more")
