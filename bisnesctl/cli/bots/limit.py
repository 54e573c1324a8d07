"""`bisnesctl bots limit`: limits for a WhatsApp Web bot during warm-up."""

from typing import Annotated, Any

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import TheCompany, ThePhone, example, usable_settings
from bisnesctl.cli.bots.group import bots
from bisnesctl.errors import UsageError

#: The highest limit.
MAX_MESSAGES = 1_000_000


def _count(help: str) -> Any:
    return typer.Option(min=1, max=MAX_MESSAGES, metavar="N", help=help)


@bots.command(
    epilog=example(
        "bisnesctl bots limit 0128 1 --per-hour 20 --new-chats-per-day 10",
        "bisnesctl bots limit 0128 1",
        "bisnesctl bots limit 0128 1 --none",
    )
)
@changes_if(lambda given: any(each for name, each in given.items() if name not in ("company", "phone")))
def limit(
    company: TheCompany,
    phone: ThePhone = 0,
    per_hour: Annotated[int | None, _count("Messages in an hour, at most.")] = None,
    per_day: Annotated[int | None, _count("Messages in a day, at most.")] = None,
    new_chats_per_day: Annotated[int | None, _count("Chats with new contacts in a day, at most.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all limits, except those named as well.")] = False,
) -> None:
    """Limit how much a WhatsApp Web bot sends during warm-up, or show its limits. Further messages wait.

    WhatsApp bans new numbers that write to many strangers. Limits that are not named stay as they are.
    """
    from bisnesctl.bots import warmup_limits, web_sessions
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    given = {"per_hour": per_hour, "per_day": per_day, "new_chats_per_day": new_chats_per_day}
    with postgres.command_connection(usable_settings()) as connection:
        bot = web_sessions.find_one(connection, company, phone).bot_id
        before = warmup_limits.WarmupLimits() if none else warmup_limits.of(connection, bot)
        wanted = before.changed(**given)
        if wanted.per_hour and wanted.per_day and wanted.per_hour > wanted.per_day:
            raise UsageError(f"{wanted.per_hour} messages an hour are more than {wanted.per_day} a day")
        if none or any(given.values()):
            warmup_limits.save(connection, bot, wanted)
    output.result(f"bot {phone} of company {company}: {wanted}")
