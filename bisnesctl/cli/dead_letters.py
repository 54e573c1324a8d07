"""`bisnesctl dead-letters`: what could not be done, and waits for somebody to look."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import WATCH, AnyCompany, app, example

if TYPE_CHECKING:
    from bisnesctl.deadletters import DeadLetter, Opened

dead_letters = typer.Typer(no_args_is_help=True, help="List, look into and retry what could not be done.")
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=WATCH)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="As `dead-letters list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For other programs.")]


class Kind(StrEnum):
    """What could not be done."""

    MESSAGES = "messages"
    WEBHOOKS_IN = "webhooks-in"
    WEBHOOKS_OUT = "webhooks-out"
    MEDIA = "media"


@dead_letters.command(
    "list", epilog=example("bisnesctl dead-letters list", "bisnesctl dead-letters list --kind webhooks-out --json")
)
def list_letters(
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    company: AnyCompany = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="The newest so many.")] = 50,
    json: AsJson = False,
) -> None:
    """Show what was given up, newest first.

    `messages` failed for good; `webhooks-in` of the providers could not be applied; `webhooks-out` are events that a
    customer's webhook did not take for a day; `media` of messages that came in could not be fetched.
    """
    from bisnesctl import database, deadletters, output
    from bisnesctl.settings import load

    with database.connected(load()) as connection:
        found, more = deadletters.find(connection, limit, kind and kind.value, company)
    output.print_found(found, json, _show, "there are no dead letters")
    if more:
        output.say("there are more: see `--limit`, `--kind` and `--company`")


@dead_letters.command(
    epilog=example("bisnesctl dead-letters show 42", "bisnesctl dead-letters show evt_01JD5S0QK1 --json")
)
def show(letter_id: LetterId, json: AsJson = False) -> None:
    """Show one with everything that is known of it, such as a webhook's body."""
    from dataclasses import asdict

    from bisnesctl import database, deadletters, output
    from bisnesctl.settings import load

    with database.connected(load()) as connection:
        found = deadletters.open_letters(connection, letter_id)
    if json:
        output.print_json([asdict(each) for each in found])
        return
    for letter in found:
        _print(letter)


@dead_letters.command(epilog=example("bisnesctl dead-letters retry 42 43", "bisnesctl dead-letters retry evt_01JD5S"))
def retry(
    letter_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="As `dead-letters list` shows them.")],
) -> None:
    """Have them tried again: all, or none where one of them cannot be.

    A webhook of a provider is applied once more, an event is called once more in the order of its chat, a file is
    fetched once more. A message that failed is sent again by sending it as a new one.
    """
    from rich.markup import escape

    from bisnesctl import database, deadletters, output
    from bisnesctl.settings import load

    with database.connected(load()) as connection:
        retried = deadletters.retry(connection, letter_ids)
    for letter in retried:
        output.say(escape(f"trying again: {letter.kind} {letter.id}"))


def _show(found: "list[DeadLetter]") -> None:
    from rich.markup import escape

    from bisnesctl import output

    columns = [
        output.Column("kind"),
        output.Column("id"),
        output.Column("company", wraps=True, from_width=100),
        output.Column("since", from_width=120),
        output.Column("reason", wraps=True),
    ]
    cells = [[each.kind, each.id, each.company or "-", each.at, each.reason] for each in found]
    output.print_table(columns, [[escape(text) for text in row] for row in cells])


def _print(letter: "Opened") -> None:
    import json
    from dataclasses import asdict

    from bisnesctl import output

    fields = asdict(letter)
    for name, value in (fields | fields.pop("details")).items():
        plain = isinstance(value, str) and value.isprintable()  # nothing that a terminal would obey
        text = value if plain else json.dumps(value, indent=2, ensure_ascii=not isinstance(value, dict | list))
        output.result(f"{name}: {text}")
    output.result("")
