"""`bisnesctl describe`: one process, bot or message on one page."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, complete_name, example, running_deployment

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="An instance, a program, supervisord, a bot such as 0128-2, or the id of a message.",
        autocompletion=complete_name,
    ),
]
Env = Annotated[bool, typer.Option("--env", help="Show every environment variable of a process. Secrets are masked.")]
Text = Annotated[bool, typer.Option("--text", help="Show the text of a message too. It belongs to the customer.")]


@app.command("show", hidden=True, rich_help_panel=WATCH)
@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl describe api-0",
        "bisnesctl describe api-0 --env",
        "bisnesctl describe 0128-2",
        "bisnesctl describe MESSAGE-ID",
    ),
)
@reads
def describe(name: Name, text: Text = False, env: Env = False, json: AsJson = False) -> None:
    """Show all about one process, bot or message: wanted, actual, why they differ, what is next, and what to type.

    A process: its command, environment (secrets masked), limits, relatives, connections, files, restart history, last
    events and log lines. A bot: its session, hold, limits, queue and webhooks. A message: its life with times.
    """
    from bisnesctl.terminal import output, page_view
    from bisnesctl.views import subject

    found = subject.describe(running_deployment(), name, text)
    if json and found.kind == "program":
        output.print_json(
            {"kind": "program", "name": name, "instances": [page_view.as_dict(each) for each in found.pages]}
        )
    elif json:
        output.print_json(page_view.as_dict(found.pages[0]))
    else:
        for place, page in enumerate(found.pages):
            if place:
                output.out().print()
            page_view.show(page, every_variable=env)
