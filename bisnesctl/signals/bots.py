"""Signals of bots: whether they work, the states of WhatsApp Web sessions, the expiry of tokens."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from bisnesctl.bots import outages
from bisnesctl.bots.check_records import UNAVAILABLE, BotTrouble
from bisnesctl.bots.provider_report import EXPIRY_WARNING_SECONDS, expiry_date
from bisnesctl.database.postgres import Connection, query
from bisnesctl.health.verdict import findings_of_bots
from bisnesctl.signals.processes import severity
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import BROKEN, FINE, Place, Reading, Runbook, Signal, Unit

#: The statuses of `BotTrouble`, which have their rows even if no bot is in trouble.
STATUSES = (
    "waiting", "unavailable", "error", "warning", "blocked", "failed", "stopped", "unlinked", "silent", "starting",
)  # fmt: skip
STATES = ("WORKING", "STARTING", "SCAN_QR_CODE", "FAILED", "STOPPED", "BLOCKED")

BOT_HEALTH = Signal(
    "bot_health",
    "Whether a bot needs attention, for a reason of its own.",
    Unit.SEVERITY,
    Place.POSTGRESQL,
    Runbook(
        "The bot is held, blocked, logged out or warned about, and its messages wait. The reason names the command. "
        "Bots whose provider cannot be reached are in provider_health instead.",
        ("bisnesctl health", "bisnesctl bots list"),
        ("bisnesctl bots verify", "bisnesctl bots unblock COMPANY PHONE", "bisnesctl bots link COMPANY PHONE"),
    ),
    labels=("bot",),
    warning=Range(-math.inf, 0),
    hold_seconds=60,
    explained_by=("postgres_health",),
    summary="bot {bot} {value}: {reason}",
    exported=False,
)
BOTS = Signal(
    "bots",
    "Bots, by channel.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("All bots in phone_configs, whether they work or not."),
    labels=("process",),
)
BOTS_IN_TROUBLE = Signal(
    "bots_in_trouble",
    "Bots that need an operator, by the status that `bisnesctl status` shows.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "`unavailable`: the provider cannot be reached. `waiting`: held until there is a new token or the like. The "
        "others are states of WhatsApp Web sessions or findings of a check. Names of bots are no labels: `bisnesctl "
        "health` has them.",
        ("bisnesctl health", "bisnesctl bots list"),
        ("bisnesctl bots verify",),
    ),
    labels=("status",),
    warning=Range(0, 0),
    hold_seconds=300,
    explained_by=("postgres_health",),
    summary="{value} bots are {status}",
)
SESSIONS = Signal(
    "sessions",
    "WhatsApp Web sessions, by state.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("docs/reference/sessions.md explains the states. bots_in_trouble judges them."),
    labels=("state",),
)
TOKEN_EXPIRES_IN = Signal(
    "token_expires_in",
    "Time until the first access token of a bot expires, as its provider reports it; negative: it has expired.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "Without a valid token nothing is sent, and the number is held. Fourteen days are enough to reach the "
        "customer who has to renew it, two days are not.",
        ("bisnesctl bots verify",),
        ("bisnesctl bots add --company COMPANY --phone PHONE --token-stdin",),
    ),
    warning=Range(EXPIRY_WARNING_SECONDS, math.inf),
    critical=Range(2 * 86400, math.inf),
    hold_seconds=60,
    explained_by=("postgres_health",),
    summary="a token expires in {value}: {reason}",
)
PROVIDER_HEALTH = Signal(
    "provider_health",
    "Whether the provider of a channel serves the bots that have messages to send.",
    Unit.SEVERITY,
    Place.POSTGRESQL,
    Runbook(
        "The provider is unavailable, answers with errors, or cannot be reached from this machine. Messages wait, "
        "nothing is lost, and sending continues by itself. The reason has the provider's error and the bots.",
        ("bisnesctl health", "bisnesctl bots list", "curl -sI https://graph.facebook.com"),
        ("Look at the uplink of this machine, and at the provider's status page.",),
    ),
    labels=("process",),
    warning=Range(-math.inf, 0),
    critical=Range(-math.inf, 1),
    hold_seconds=60,
    explained_by=("postgres_health",),
    summary="the provider of {process} {value}: {reason}",
)
SIGNALS = (BOT_HEALTH, BOTS, BOTS_IN_TROUBLE, SESSIONS, TOKEN_EXPIRES_IN, PROVIDER_HEALTH)

_SESSIONS = """
SELECT CASE WHEN b.bot_id IS NOT NULL THEN 'BLOCKED' ELSE COALESCE(s.state, 'STOPPED') END, count(*)::float
FROM phone_configs c LEFT JOIN wa_session s ON s.bot_id = c.id
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now()
WHERE c.process_name = 'wwebjs' GROUP BY 1"""
_BOTS = "SELECT COALESCE(process_name, 'wwebjs'), count(*)::float FROM phone_configs GROUP BY 1"
_EXPIRY = """
SELECT (k.report ->> 'token_expires_at')::bigint, c.company_id, c.phone_index
FROM bot_check k JOIN phone_configs c ON c.id = k.bot_id
WHERE (k.report ->> 'token_expires_at')::bigint > 0 ORDER BY 1 LIMIT 1"""


def read_bots(connection: Connection, troubles: Sequence[BotTrouble]) -> Iterator[Reading]:
    """The bots, and those in trouble."""
    found = {"meta": 0.0, "wwebjs": 0.0} | dict(query(connection, _BOTS))
    for channel, count in found.items():
        yield Reading(BOTS, count, {"process": channel})
    counts = Counter(dict.fromkeys(STATUSES, 0))
    for each, finding in zip(troubles, findings_of_bots(troubles), strict=True):
        if finding.verdict:  # a number that is not in use yet is no trouble
            counts[each.status] += 1 + each.others
        if finding.verdict and each.status != UNAVAILABLE:
            yield Reading(BOT_HEALTH, severity(finding), {"bot": each.name}, finding.health.reason)
    for status, number in counts.items():
        yield Reading(BOTS_IN_TROUBLE, float(number), {"status": status})


def read_providers(connection: Connection) -> Iterator[Reading]:
    """The providers of the channels. An outage of several bots is one trouble, however many they become."""
    reasons: dict[str, list[str]] = {"meta": [], "wwebjs": []}
    for each in outages.find(connection):
        bots = f"bot {each.company}-{each.phone}{f' and {each.others} more' if each.others else ''}"
        reasons.setdefault(each.process, []).append(f"{bots}: {each}")
    for channel, found in reasons.items():
        yield Reading(PROVIDER_HEALTH, BROKEN if found else FINE, {"process": channel}, "; ".join(found))


def read_sessions(connection: Connection) -> Iterator[Reading]:
    """The sessions by state."""
    found = dict.fromkeys(STATES, 0.0) | dict(query(connection, _SESSIONS))
    for state, count in found.items():
        yield Reading(SESSIONS, count, {"state": state})


def read_tokens(connection: Connection) -> Iterator[Reading]:
    """The token that expires first; nothing if none does."""
    for moment, company, phone in query(connection, _EXPIRY):
        bot = f"bot {company}-{phone}"
        left = moment - time.time()
        yield Reading(TOKEN_EXPIRES_IN, left, {}, f"{bot}, on {expiry_date(moment)}", subject=bot)
