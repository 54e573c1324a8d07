"""The links of a bot: its session, its number's holds and limits, and its provider's last word."""

from dataclasses import dataclass
from typing import Any

from bisnesctl.bots import causes, warmup_limits
from bisnesctl.bots.causes import Cause
from bisnesctl.database.postgres import Connection, query
from bisnesctl.diagnosis.chain import Link, State
from bisnesctl.formatting import duration
from bisnesctl.queue.lane_sql import FINISHED
from bisnesctl.settings import Settings

#: The subject of the link that says that no process serves a bot.
PROCESS = "process"
#: Seconds that a provider may take on average before it counts as slow.
SLOW_ANSWER_SECONDS = 5.0
#: Seconds for which a failed or refused message counts as the provider's last word.
LAST_WORD_SECONDS = 3600
#: Failed messages of a bot among which that word is looked for.
MAX_FAILED_MESSAGES = 1000

_NUMBER = """
SELECT c.id, c.process_name, COALESCE(c.connection_type, 'wwebjs'),
       (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id),
       (SELECT count(*)::int FROM lane WHERE bot_id = c.id AND claim IS NOT NULL),
       p.rate::float,
       CASE WHEN p.slow_until > now() THEN p.slow_factor END::float,
       CASE WHEN p.slow_until > now() THEN extract(epoch FROM p.slow_until - now()) END::float,
       extract(epoch FROM GREATEST(p.free_at, now() - interval '1 day') - now())::float
           + 1 / (COALESCE(p.rate, CASE c.process_name WHEN 'wwebjs' THEN %(wwebjs_rate)s ELSE %(meta_rate)s END)
               * CASE WHEN p.slow_until > now() THEN p.slow_factor ELSE 1 END),
       extract(epoch FROM now() - k.checked_at)::float, COALESCE(k.report -> 'problems', '[]')
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id LEFT JOIN bot_check k ON k.bot_id = c.id
WHERE c.company_id = %(company)s AND c.phone_index = %(phone)s"""

# The first message of each chat that waits, of which the oldest is the oldest of all.
_OLDEST = f"""
SELECT extract(epoch FROM now() - min(o.accepted_at))::float
FROM lane l CROSS JOIN LATERAL (
    SELECT accepted_at FROM outbox
    WHERE bot_id = l.bot_id AND chat_id = l.chat_id AND id > {FINISHED} AND status <= 'sending'
    ORDER BY id LIMIT 1) o
WHERE l.bot_id = %s AND l.pending > 0"""

_SPEED = """
SELECT sum(responses)::int, sum(response_ms)::float / NULLIF(sum(responses), 0) / 1000
FROM process_instances
WHERE process_name = %s AND instance LIKE process_name || '-worker-%%'
    AND last_heartbeat > now() - interval '2 minutes'"""

# Of the messages that were accepted last; the outbox itself may be large.
_LAST_REFUSAL = f"""
SELECT o.error_code, o.error, extract(epoch FROM now() - o.updated_at)::float
FROM (SELECT * FROM failed_message WHERE bot_id = %s ORDER BY id DESC LIMIT {MAX_FAILED_MESSAGES}) f
    JOIN outbox o USING (bot_id, chat_id, id)
WHERE o.status = 'failed' AND o.updated_at > now() - %s * interval '1 second'
ORDER BY o.updated_at DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Number:
    """A bot as the database knows it. Times are in seconds from or before now, by the database's clock."""

    id: int
    channel: str
    type: str
    waiting: int
    in_hand: int
    rate: float | None
    slow_factor: float | None
    slow_for: float | None
    free_in: float | None  # when its rate allows the next message; below 0: now
    checked_ago: float | None
    problems: list[dict[str, Any]]

    @property
    def is_web(self) -> bool:
        """Whether it is a number of WhatsApp Web, with a session."""
        return self.channel == "wwebjs"


def find(connection: Connection, settings: Settings, company: str, phone: int) -> Number | None:
    """The bot; None if there is none. The settings have the rates of bots without their own."""
    values = {
        "company": company,
        "phone": phone,
        "meta_rate": settings.meta_max_messages_per_second,
        "wwebjs_rate": settings.wwebjs_max_messages_per_second,
    }
    rows = query(connection, _NUMBER, values)
    return Number(*rows[0]) if rows else None


def oldest_waiting(connection: Connection, number: Number) -> float | None:
    """For how many seconds the bot's oldest message has waited."""
    rows = query(connection, _OLDEST, (number.id,))
    age: float | None = rows[0][0]
    return age


def links(connection: Connection, company: str, phone: int, number: Number, silence_seconds: float) -> list[Link]:
    """The links of a bot in their order. `silence_seconds`: after which a page without a heartbeat is silent.

    One about `PROCESS` says that no process anywhere serves the bot.
    """
    bot = causes.situations(connection, [number.id]).get(number.id)
    found = list(causes.causes_of(bot, silence_seconds)) if bot else []
    links = [_cause(each) for each in found]
    if number.is_web and bot is not None and bot.session is not None and not _concern(found, "session"):
        links.append(Link("session", State.OK, f"it works, with number {bot.session.number or 'unknown'}"))
    is_held = _concern(found, "number")
    if not is_held:
        links.append(Link("number", State.OK, "nothing holds it"))
    links += _pace(connection, number, company, phone)
    return [*links, *_provider(connection, number, company, phone, is_held)]


def _concern(found: list[Cause], about: str) -> bool:
    return any(each.about == about for each in found)


def _cause(cause: Cause) -> Link:
    state = State.BLOCKS if cause.lasts else State.DELAYS
    return Link(cause.about, state, cause.text, cause.next, cause.command or "")


def _pace(connection: Connection, number: Number, company: str, phone: int) -> list[Link]:
    """Its rate and limits; none if they delay nothing."""
    found = []
    if number.slow_factor is not None:
        text = f"its provider throttles it: it sends at {number.slow_factor:.0%} of its rate"
        found.append(Link("rate", State.WARNS, text, f"it is faster again in {duration(number.slow_for)}"))
    if number.waiting and (number.free_in or 0) > 1:
        rate = f"{number.rate:g} messages a second" if number.rate else "the rate of its channel"
        found.append(
            Link(
                "rate",
                State.DELAYS,
                f"it sends {rate}",
                f"its next message leaves in {duration(number.free_in)}",
                f"bisnesctl bots add --company {company} --phone {phone} --rate N",
            )
        )
    if number.is_web and str(limits := warmup_limits.of(connection, number.id)) != "no limit":
        found.append(
            Link("limits", State.OK, f"it may send {limits}", command=f"bisnesctl bots limit {company} {phone}")
        )
    return found


def _provider(connection: Connection, number: Number, company: str, phone: int, is_held: bool) -> list[Link]:
    """The last words of the provider: about the number, its speed, and about a message."""
    found = []
    for each in number.problems:
        state = State.OK if is_held else State.WARNS  # a hold has said it already
        text = f"the check {duration(number.checked_ago)} ago found: {each.get('text', each.get('code'))}"
        advice = f"{each['next']} " if each.get("next") else ""
        found.append(
            Link(
                "provider", state, text, command=f"{advice}(bisnesctl bots verify --company {company} --phone {phone})"
            )
        )
    [(responses, seconds)] = query(connection, _SPEED, (number.channel,))
    if not number.is_web and seconds is not None and seconds > SLOW_ANSWER_SECONDS:
        text = f"its answers take {seconds:.1f} s on average ({responses} in the last minute)"
        found.append(Link("provider", State.WARNS, text, "messages leave more slowly; nothing is lost"))
    for code, error, ago in query(connection, _LAST_REFUSAL, (number.id, LAST_WORD_SECONDS)):
        text = f"its last refusal was {duration(ago)} ago: {': '.join(filter(None, (code, error)))}"
        found.append(Link("provider", State.OK, text, command="bisnesctl dead-letters list"))
    return found
