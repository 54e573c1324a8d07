"""`bisnesctl quotas`: the limits of companies."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import USE, AnyCompany, AsJson, Commands, TheCompany, app, example, usable_settings

if TYPE_CHECKING:
    from bisnesctl.database.quotas import QuotaUse

quotas = typer.Typer(cls=Commands, no_args_is_help=True, help="Show and change how much each company may use.")
app.add_typer(quotas, name="quotas", rich_help_panel=USE)


@quotas.command("list", epilog=example("bisnesctl quotas list", "bisnesctl quotas list --company 0128 --json"))
@reads
def list_quotas(company: AnyCompany = None, json: AsJson = False) -> None:
    """List the quotas of every company: how much is used, the limit, and where the limit comes from.

    The defaults are the settings QUOTA_… in `.env`. Rates are counted in the processes, so their use is not shown.
    """
    from bisnesctl.database import postgres
    from bisnesctl.database import quotas as store
    from bisnesctl.terminal import output

    settings = usable_settings()
    with postgres.command_connection(settings) as connection:
        found = store.find(connection, settings, company)
    output.print_found(found, json, _show, "there are no companies yet: [b]bisnesctl bots add[/] adds the first number")


@quotas.command(
    "set",
    epilog=example(
        "bisnesctl quotas set 0128 meta_numbers=5 media_mb=2000",
        "bisnesctl quotas set 0128 requests_per_second=unlimited",
        "bisnesctl quotas set 0128 web_numbers=default",
    ),
)
@changes
def set_quotas(
    company: TheCompany,
    limits: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...",
            help="A number, `unlimited`, or `default` for the setting in .env.",
            show_default=False,
        ),
    ],
) -> None:
    """Change quotas of one company. Running processes apply them at once.

    The numbers, files and messages of a company stay, even if they are more than the new limit.
    """
    from bisnesctl.database import postgres
    from bisnesctl.database import quotas as store
    from bisnesctl.terminal import output

    wanted = [store.parse(each) for each in limits]
    settings = usable_settings()
    with postgres.command_connection(settings) as connection:
        store.change(connection, company, wanted)
        names = {quota for quota, _ in wanted}
        found = [each for each in store.find(connection, settings, company) if each.quota in names]
    for each in found:
        origin = "" if each.own else f" ({each.quota.setting.upper()})"
        output.say(f"{each.quota} of company {company}: {store.shown_limit(each.limit)}{origin}")


def _show(found: "list[QuotaUse]") -> None:
    from bisnesctl.database.quotas import shown_limit
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    columns = [
        output.Column("company", wraps=True),
        output.Column("quota"),
        output.Column("used", "right"),
        output.Column("limit", "right"),
        output.Column("from"),
    ]
    rows = []
    for each in found:
        used = "-" if each.used is None else str(each.used)
        origin = "the company" if each.own else "default"
        rows.append(
            [
                escape(each.company),
                each.quota.value,
                f"[red]{used}[/]" if each.is_used_up else used,
                shown_limit(each.limit),
                origin,
            ]
        )
    output.print_table(columns, rows)
