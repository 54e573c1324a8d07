"""`bisnesctl keys`: the keys of the HTTP API."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import USE, AnyCompany, AsJson, Commands, app, example, usable_settings
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.api_keys import ApiKey

keys = typer.Typer(cls=Commands, no_args_is_help=True, help="Create, list and revoke keys of the HTTP API.")
app.add_typer(keys, name="keys", rich_help_panel=USE)


@keys.command(
    epilog=example(
        "bisnesctl keys create --company 0128 --label 'web shop'", "bisnesctl keys create --operator --label cron"
    )
)
@changes
def create(
    company: AnyCompany = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="An operator's key, for all companies and operator routes.")
    ] = False,
    label: Annotated[str, typer.Option(help="A note that tells keys apart.")] = "",
    json: AsJson = False,
) -> None:
    """Create a key and print it. It is not shown again, because only its hash is stored."""
    from bisnesctl.bots import store as bots
    from bisnesctl.database import api_keys, postgres
    from bisnesctl.terminal import output

    if (company is None) != operator:
        raise UsageError("name the owner of the key: `--company ID`, or `--operator` for all companies")
    key = api_keys.generate()
    with postgres.command_connection(usable_settings()) as connection:
        api_keys.register(connection, key, company, label)
        if company is not None and not bots.find(connection, company):
            output.say(f"[yellow]note:[/] company {company} has no bots yet (`bisnesctl bots list` shows all)")
    if json:
        output.print_json({"key": key, "company": company, "label": label})
    else:
        output.result(key)
    output.say("store it now: it is not shown again; callers send it as X-Api-Key")


@keys.command("list", epilog=example("bisnesctl keys list", "bisnesctl keys list --company 0128"))
@reads
def list_keys(company: AnyCompany = None, json: AsJson = False) -> None:
    """List the keys by their first characters, including revoked ones."""
    from bisnesctl.database import api_keys, postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found = api_keys.find(connection, company)
    none = "there are no keys yet: [b]bisnesctl keys create --company 0128[/] creates one"
    output.print_found(found, json, _show, none)


@keys.command(epilog=example("bisnesctl keys revoke 3", "bisnesctl keys revoke bk_Xy12a --company 0128"))
@changes
def revoke(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="Its id, its first characters as `keys list` shows them, or all of it.")
    ],
    company: AnyCompany = None,
) -> None:
    """Revoke a key permanently. Running processes refuse it at once."""
    from bisnesctl.database import api_keys, postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found = api_keys.revoke(connection, key, company)
    owner = "an operator" if found.company is None else f"company {found.company}"
    when = f" already on {found.revoked_at}" if found.revoked_at else ""
    output.say(f"revoked key {found.id} ({found.prefix}…) of {owner}{when}")


@keys.command("rotate-encryption", epilog=example("bisnesctl keys rotate-encryption"))
@changes
def rotate_encryption() -> None:
    """Replace ENCRYPTION_KEY: generate a new one and encrypt all stored credentials with it.

    Works while everything runs: the programs that read credentials are restarted one after the other. If it is
    interrupted, the same command continues. Neither key is shown; the new one is in `.env`, so keep a copy of that. A
    former server and programs on other machines need the new key too.
    """
    from bisnesctl.lifecycle import key_rotation, preflight
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.terminal import output

    deployment = open_deployment()
    preflight.check_secrets(deployment.settings)
    key_rotation.rotate(deployment, output.say)
    output.say("[green]✓[/] ENCRYPTION_KEY is replaced; store a copy of it in a safe place")


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
    from bisnesctl.terminal.output import escape

    company = "[b]operator[/]" if key.company is None else escape(key.company)
    return [str(key.id), f"{escape(key.prefix)}…", company, escape(key.label), key.created_at, key.revoked_at or "-"]
