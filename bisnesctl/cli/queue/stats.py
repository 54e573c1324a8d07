"""`bisnesctl queue stats`: how many messages wait, are in hand, were sent and failed."""

from typing import TYPE_CHECKING

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AnyCompany, AsJson, example, usable_settings
from bisnesctl.cli.queue.group import AnyBot, bot_of, queue

if TYPE_CHECKING:
    from bisnesctl.queue.stats import Counts


@queue.command(
    epilog=example("bisnesctl queue stats", "bisnesctl queue stats --bot 0128/0", "bisnesctl queue stats --json")
)
@reads
def stats(bot: AnyBot = None, company: AnyCompany = None, json: AsJson = False) -> None:
    """Count the messages of each queue and in total.

    `waiting`: they wait for their turn. `active`: a worker has them in hand. `completed`: they were sent. `delayed`:
    they cannot leave now, because their bot is held or paused, or because they wait for their next attempt. `unknown`:
    they may have been sent. `oldest` is the age of the oldest message that waits.
    """
    from bisnesctl.database import postgres
    from bisnesctl.queue import stats as counting
    from bisnesctl.queue import targets
    from bisnesctl.queue.stats import Counts
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        phone = None
        if bot is not None:
            company, phone = bot_of(bot, company)
            targets.named(connection, f"{company}/{phone}")
        found = counting.of_bots(connection, company, phone)
    queues = counting.by_queue(found)
    total = sum(queues.values(), Counts())
    if json:
        output.print_json({"queues": {name: _plain(each) for name, each in queues.items()}, "total": _plain(total)})
        return
    columns = [output.Column("queue")]
    columns += [output.Column(name, "right") for name in ("waiting", "active", "delayed", "completed", "failed")]
    columns.append(output.Column("unknown", "right", from_width=100))
    columns += [output.Column("total", "right"), output.Column("oldest", "right")]
    output.print_table(columns, [_cells(name, each) for name, each in [*queues.items(), ("total", total)]])


def _plain(counts: "Counts") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(counts)


def _cells(name: str, counts: "Counts") -> list[str]:
    from bisnesctl import formatting

    numbers = (counts.waiting, counts.active, counts.delayed, counts.completed, counts.failed)
    unknown = str(counts.unknown or "-")
    return [name, *map(str, numbers), unknown, str(counts.total), formatting.duration(counts.oldest_seconds)]
