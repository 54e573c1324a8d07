"""`bisnesctl why`: what prevents a process, a bot or a message from working, and what to type."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, usable_settings

if TYPE_CHECKING:
    from bisnesctl.diagnosis.chain import Diagnosis, Link

_MARKS = {
    "blocks": "[red]✗[/]",
    "delays": "[yellow]…[/]",
    "warns": "[yellow]![/]",
    "unseen": "[yellow]?[/]",
    "ok": "[green]✓[/]",
}
#: The colour and the words for the state of the cause.
_CONCLUSIONS = {
    "blocks": ("red", "is prevented by:"),
    "delays": ("yellow", "waits because of:"),
    "warns": ("yellow", "works, but see:"),
    "unseen": ("yellow", "could not be seen:"),
}


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl why",
        "bisnesctl why 0128-0",
        "bisnesctl why api-1",
        "bisnesctl why 01a21810-359a-77fc-a341-6aaed94b3d4b",
    ),
)
@reads
def why(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|BOT|MESSAGE-ID]",
            help="A process, a bot such as 0128-0, or a message; default: all troubles.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Say why a process, a bot or a message is as it is: what is wanted, what prevents it, what happens next, and what
    to type.

    It follows the chain from supervisord and the servers over the process, its session and its number's holds to the
    first message of the chat. Without a name it explains everything that needs an operator. It works without the
    services, PostgreSQL and Redis, and says what it could not see.
    """
    from bisnesctl.diagnosis import diagnose, targets
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.terminal import output

    settings = usable_settings()
    refused = settings.problems.values()
    deployment = open_deployment(as_started(settings.with_defaults()))
    named = targets.find(names or [], deployment)
    if deployment.settings.embedded_postgres or all(isinstance(each, targets.ProcessTarget) for each in named):
        deployment.check_started()
    found = diagnose.diagnose(deployment, refused, named) if named else diagnose.troubles(deployment, refused)
    if json:
        output.print_json([_plain(each) for each in found])
    elif found:
        for number, each in enumerate(found):
            _show(each, first=number == 0)
    else:
        output.say("everything is as it is wanted")


def _plain(diagnosis: "Diagnosis") -> dict[str, Any]:
    from dataclasses import asdict

    cause = diagnosis.cause
    return {
        "target": diagnosis.target,
        "wanted": diagnosis.wanted,
        "actual": diagnosis.actual,
        "cause": asdict(cause) if cause else None,
        "links": [asdict(link) for link in diagnosis.links],
        "type": diagnosis.steps,
        "unseen": [link.about for link in diagnosis.unseen],
    }


def _show(diagnosis: "Diagnosis", first: bool) -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    out, cause = output.out(), diagnosis.cause
    if not first:
        out.print()
    out.print(f"[b]{escape(diagnosis.target)}[/]{_conclusion(diagnosis)}", soft_wrap=True)
    rows = [("wanted", escape(diagnosis.wanted)), ("now", escape(diagnosis.actual))]
    rows += [("", _line(link)) for link in diagnosis.links if link is not cause or not _is_own(diagnosis)]
    if cause is not None:
        rows.append(("next", escape(cause.next) if cause.next else "nothing happens without you"))
    rows += [("type" if number == 0 else "", f"[b]{escape(step)}[/]") for number, step in enumerate(diagnosis.steps)]
    if diagnosis.unseen:
        rows.append(("unseen", escape(", ".join(link.about for link in diagnosis.unseen))))
    output.print_pairs(rows)


def _conclusion(diagnosis: "Diagnosis") -> str:
    from bisnesctl.terminal.output import escape

    cause = diagnosis.cause
    if cause is None:
        return ": [green]nothing prevents it[/]"
    colour, verb = _CONCLUSIONS[cause.state]
    if _is_own(diagnosis):
        own = cause.text.removeprefix("it ") if cause.text.startswith("it ") else f": {cause.text}"
        step = f". Start it: [b]{escape(cause.command)}[/]" if cause.command.startswith("bisnesctl start ") else ""
        return f"{'' if own.startswith(':') else ' '}[{colour}]{escape(own)}[/]{step}"
    return f" [{colour}]{verb} {escape(cause.about)}[/]"


def _is_own(diagnosis: "Diagnosis") -> bool:
    """Whether the target itself is the cause, so that the first line says all about it."""
    cause = diagnosis.cause
    return cause is not None and cause.about == diagnosis.target


def _line(link: "Link") -> str:
    from bisnesctl.terminal.output import escape

    return f"{_MARKS[link.state]} [b]{escape(link.about)}[/] {escape(link.text)}"
