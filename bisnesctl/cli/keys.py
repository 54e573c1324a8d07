"""`bisnesctl keys`: who may use the HTTP API."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import USE, AnyCompany, app, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.api_keys import ApiKey

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of the HTTP API.")
app.add_typer(keys, name="keys", rich_help_panel=USE)


@keys.command(
    epilog=example(
        "bisnesctl keys create --company 0128 --label 'web shop'", "bisnesctl keys create --operator --label cron"
    )
)
def create(
    company: AnyCompany = None,
    operator: Annotated[bool, typer.Option("--operator", help="For every company, and for operators' calls.")] = False,
    label: Annotated[str, typer.Option(help="What it is for, to tell keys apart.")] = "",
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Make a key and print it: the only time that it is shown, for its hash alone is kept."""
    from bisnesctl.bots import store as bots
    from bisnesctl.database import api_keys as store
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    if (company is None) != operator:
        raise UsageError("say whose key it is: `--company ID`, or `--operator` for every company")
    key = store.generate()
    with database_setup.connected(load()) as connection:
        store.register(connection, key, company, label)
        if company is not None and not bots.find(connection, company):
            output.say(f"[yellow]note:[/] company {company} has no bots yet (`bisnesctl bots list` shows all)")
    if json:
        output.print_json({"key": key, "company": company, "label": label})
    else:
        output.result(key)
    output.say("keep it now: it is not shown again; send it as X-Api-Key")


@keys.command("list", epilog=example("bisnesctl keys list", "bisnesctl keys list --company 0128"))
def list_keys(
    company: AnyCompany = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Show all keys by their first characters, the revoked ones too."""
    from bisnesctl.database import api_keys as store
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        found = store.find(connection, company)
    output.print_found(
        found, json, _show, "there are no keys yet: [b]bisnesctl keys create --company 0128[/] makes one"
    )


@keys.command(epilog=example("bisnesctl keys revoke 3", "bisnesctl keys revoke bk_Xy12a --company 0128"))
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, its first characters as `keys list` shows them, or all of it.")],
    company: AnyCompany = None,
) -> None:
    """Shut a key out for good. Running processes know it at once."""
    from bisnesctl.database import api_keys as store
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        found = store.revoke(connection, key, company)
    whose = "an operator" if found.company is None else f"company {found.company}"
    when = f" already on {found.revoked_at}" if found.revoked_at else ""
    output.say(f"revoked key {found.id} ({found.prefix}…) of {whose}{when}")


def _show(found: "list[ApiKey]") -> None:
    from bisnesctl.terminal import output

    columns = [
        output.Column("id", "right"),
        output.Column("key"),
        output.Column("company", wraps=True),
        output.Column("label", wraps=True),
        output.Column("created", from_width=110),
        output.Column("revoked"),
    ]
    output.print_table(columns, [_cells(each) for each in found])


def _cells(key: "ApiKey") -> list[str]:
    from rich.markup import escape

    company = "[b]operator[/]" if key.company is None else escape(key.company)
    return [str(key.id), f"{escape(key.prefix)}…", company, escape(key.label), key.created_at, key.revoked_at or "-"]
