"""Diagnoses: why a process, a bot or a message is as it is. Works without the services, PostgreSQL and Redis."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from bisnesctl.bots import check_records
from bisnesctl.database import postgres
from bisnesctl.database.postgres import Connection
from bisnesctl.diagnosis import messages, numbers, processes, surroundings
from bisnesctl.diagnosis.chain import Diagnosis, Link, State
from bisnesctl.diagnosis.numbers import Number
from bisnesctl.diagnosis.surroundings import Surroundings
from bisnesctl.diagnosis.targets import BotTarget, MessageTarget, ProcessTarget, Target
from bisnesctl.errors import BisnesError, UsageError
from bisnesctl.formatting import duration
from bisnesctl.health.guard_file import GUARD
from bisnesctl.naming import SUPERVISORD, session_name
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.extras import why_left_out
from bisnesctl.processes.selection import instances_instead
from bisnesctl.queue.messages import find_place
from bisnesctl.queue.reasons import Place

#: Seconds to connect to PostgreSQL and for each statement, so that an answer comes soon.
DATABASE_TIMEOUT_SECONDS = 3
#: Bots in trouble that are diagnosed without being named, at most.
MAX_BOTS = 12


def diagnose(deployment: Deployment, refused: Iterable[str], targets: Sequence[Target]) -> list[Diagnosis]:
    """The diagnosis of each target. `refused`: why settings are refused.

    Raises `UsageError` for a bot or message that is not there.
    """
    around = surroundings.observe(deployment, refused)
    return [_diagnose(around, target) for target in targets]


def troubles(deployment: Deployment, refused: Iterable[str]) -> list[Diagnosis]:
    """The diagnoses of everything that is not as it is wanted: processes, and bots that need an operator.

    `refused`: why settings are refused.
    """
    around = surroundings.observe(deployment, refused)
    if around.condition is not Condition.RUNNING:
        return [_process(around, SUPERVISORD)]
    names = [each.name for each in deployment.known(deployment.processes())]
    found = [_process(around, name) for name in names if name in around.health and not around.health[name].healthy]
    servers = {*surroundings.POSTGRESQL, *surroundings.REDIS}
    external = [name for name, each in around.health.items() if name not in names and not each.healthy]
    found += [_process(around, name) for name in external if name in servers]
    found += _troubled_bots(around)
    if around.links and not found:
        found = [Diagnosis("this machine", "everything works", "it needs an operator", around.links)]
    return found


def _troubled_bots(around: Surroundings) -> list[Diagnosis]:
    bots = [BotTarget(each.company, each.phone) for each in check_records.troubled(around.deployment.settings)]
    found = []
    for bot in bots[:MAX_BOTS]:
        with suppress(UsageError):  # it was removed a moment ago
            found.append(_bot(around, bot))
    if (more := len(bots) - MAX_BOTS) > 0:
        link = Link("bots", State.WARNS, f"{more} more bots need an operator", command="bisnesctl status --all")
        found.append(Diagnosis(f"{more} more bots", "they send what they are given", "not diagnosed here", [link]))
    return found


def _diagnose(around: Surroundings, target: Target) -> Diagnosis:
    match target:
        case ProcessTarget(name):
            return _process(around, name)
        case BotTarget():
            return _bot(around, target)
        case MessageTarget():
            return _message(around, target)


def _process(around: Surroundings, name: str) -> Diagnosis:
    if name == SUPERVISORD:
        links = [*around.links, surroundings.supervisord(around)]
        return Diagnosis(name, "it runs", str(around.condition), links)
    links = _below(around, name)
    if around.condition is not Condition.RUNNING:
        return Diagnosis(name, processes.wanted(around, name), "it does not run", links)
    own = processes.link(around, name)
    health = around.health.get(name)
    return Diagnosis(name, processes.wanted(around, name), str(health.status) if health else "not started",
                     _with(links, own))  # fmt: skip


def _below(around: Surroundings, name: str) -> list[Link]:
    """The links on which a process depends, but not its own."""
    links = [*around.links, surroundings.supervisord(around)]
    if around.condition is not Condition.RUNNING:
        return links
    guard = surroundings.guard(around)
    if guard is not None and name != GUARD:
        links.append(guard)
    if name not in (GUARD, *surroundings.POSTGRESQL, *surroundings.REDIS):
        links += surroundings.servers(around)
    return links


def _with(links: list[Link], own: Link) -> list[Link]:
    """The links with the process's own. A guard that does not restart a process that is down is what prevents it."""
    if own.state is State.BLOCKS:
        links = [
            replace(each, state=State.BLOCKS) if each.about == "guard" and each.state is State.WARNS else each
            for each in links
        ]
    return [*links, own]


@dataclass(frozen=True)
class _Seen:
    """The answer of the database about a bot, or why it gave none."""

    number: Number | None
    links: list[Link]
    oldest: float | None = None
    refusal: str = ""


def _bot(around: Surroundings, bot: BotTarget) -> Diagnosis:
    seen = _look(around, bot)
    if not seen.refusal and seen.number is None:
        known = around.deployment.known(around.deployment.processes())
        if existing := instances_instead(bot.name, known):
            raise UsageError(f"there is no instance {bot.name}: {existing}")
        raise UsageError(f"there is no bot {bot.name}: `bisnesctl bots list` shows all")
    links = _bot_links(around, bot, seen)
    return Diagnosis(bot.name, *_state_of(seen), links)


def _look(around: Surroundings, bot: BotTarget) -> _Seen:
    try:
        with _connected(around) as connection:
            number = numbers.find(connection, around.deployment.settings, bot.company, bot.phone)
            if number is None:
                return _Seen(None, [])
            silence = around.deployment.settings.max_heartbeat_age / 1000
            links = numbers.links(connection, bot.company, bot.phone, number, silence)
            return _Seen(number, links, numbers.oldest_waiting(connection, number) if number.waiting else None)
    except UsageError:
        raise
    except BisnesError as error:
        return _Seen(None, [], refusal=str(error))


def _bot_links(around: Surroundings, bot: BotTarget, seen: _Seen) -> list[Link]:
    links = _below(around, bot.name)
    serving = _serving(around, bot, seen.number) if around.condition is Condition.RUNNING else []
    for name in serving:
        links = _with(links, processes.link(around, name))
    if seen.refusal:
        return [
            *links,
            Link("number", State.UNSEEN, f"its session, holds and messages are in PostgreSQL: {seen.refusal}"),
        ]
    own = [each for each in seen.links if each.about != numbers.PROCESS]  # they have links of their own
    is_served = len(own) == len(seen.links)
    if seen.number is not None and around.condition is Condition.RUNNING and not serving and not is_served:
        own.append(_unserved(around, seen.number.channel))
    return [*links, *own]


def _unserved(around: Surroundings, channel: str) -> Link:
    """The link of a bot whose channel has no process, here or on another machine."""
    off = why_left_out(channel, around.deployment.settings)
    text = off or f"no process of {channel} is part of this start"
    steps = [*(["set it to true"] if off else []), around.deployment.start_command]
    return Link("channel", State.BLOCKS, text, command=steps[0], then=tuple(steps[1:]))


def _serving(around: Surroundings, bot: BotTarget, number: Number | None) -> list[str]:
    """The instances that the bot's messages need, as far as they should run here.

    One of several workers is enough, so a worker that does not work is left out while another one works.
    """
    session = session_name(bot.company, bot.phone)
    if number is None:
        return [session] if session in around.health else []
    if number.is_web:
        return [name for name in ("wwebjs", session) if name in around.health]
    workers = [
        each.name for each in around.deployment.instances if each.program.name == "meta-worker" and
        each.name in around.health
    ]  # fmt: skip
    working = [name for name in workers if around.health[name].healthy]
    return working[:1] or workers


def _state_of(seen: _Seen) -> tuple[str, str]:
    """The wanted and the actual state of a bot."""
    number = seen.number
    if number is None:
        return "it sends what it is given", "unknown"
    if not number.waiting:
        return "it sends what it is given", "nothing waits"
    waits = "1 message waits" if number.waiting == 1 else f"{number.waiting} messages wait"
    since = f", the oldest for {duration(seen.oldest)}" if seen.oldest is not None else ""
    in_hand = f", {number.in_hand} in hand" if number.in_hand else ""
    return "it sends what it is given", f"{waits}{since}{in_hand}"


def _message(around: Surroundings, target: MessageTarget) -> Diagnosis:
    try:
        with _connected(around) as connection:
            place = find_place(connection, target.id)
            own = messages.links(connection, place) if place is not None else []
    except BisnesError as error:
        links = _below(around, target.id)
        return Diagnosis(target.id, "it is sent", "unknown",
                         [*links, Link("message", State.UNSEEN, f"it is in PostgreSQL: {error}")])  # fmt: skip
    if place is None:
        raise UsageError(
            f"there is no message {target.id}: it was refused when it was sent, or it was removed after its time"
        )
    return _stored_message(around, place, own)


def _stored_message(around: Surroundings, place: Place, own: list[Link]) -> Diagnosis:
    row = place.row
    wanted = f"it is sent by {row['company']}-{row['phone']} to {row['chat']}"
    actual = f"{row['status']}, accepted {duration(row['age'])} ago"
    if not place.unfinished:  # its bot does not matter any more
        return Diagnosis(row["id"], wanted, actual, own)
    bot = BotTarget(row["company"], row["phone"])
    seen = _look(around, bot)
    if seen.number is None and not seen.refusal:
        own = [Link("number", State.BLOCKS, f"bot {bot.name} was removed", command="bisnesctl bots add --help"), *own]
        return Diagnosis(row["id"], wanted, actual, own)
    return Diagnosis(row["id"], wanted, actual, [*_bot_links(around, bot, seen), *own])


def _connected(around: Surroundings) -> AbstractContextManager[Connection]:
    return postgres.connected(around.deployment.settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS)
