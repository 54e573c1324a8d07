"""Signals of what waits: messages in the outbox, webhooks of both directions, dead letters."""

import math
from collections.abc import Iterator, Mapping, Sequence

from bisnesctl.database.postgres import Connection, query
from bisnesctl.queue.lane_sql import FINISHED
from bisnesctl.signals import history
from bisnesctl.signals.history import Sample
from bisnesctl.signals.instances import Figures
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import Place, Reading, Runbook, Signal, Unit

#: Channels, which have their rows even if nothing waits.
CHANNELS = ("meta", "wwebjs")
#: Why messages wait: a worker may send them now; later, on purpose (a retry, a limit); their number is held.
STATES = ("ready", "delayed", "held")
#: Kinds of dead letters, as `bisnesctl dead-letters` has them.
KINDS = ("messages", "unknown", "webhooks-in", "webhooks-out", "media")
#: Seconds over which growth is measured.
GROWTH_SECONDS = 1800.0

OUTBOX_WAITING = Signal(
    "outbox_waiting",
    "Messages that wait to be sent.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "States: `ready` (a worker may send them now), `delayed` (later on purpose: a retry, a limit of the "
        "number), `held` (the number is held, its provider is unavailable, or its session does not work). How many "
        "wait says little: outbox_oldest and outbox_progress judge it.",
        ("bisnesctl status", "bisnesctl bots list"),
    ),
    labels=("process", "state"),
)
OUTBOX_OLDEST = Signal(
    "outbox_oldest",
    "Age of the oldest message that a worker may send now.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "Messages usually leave within a second; a campaign may fill the queue for minutes. Messages of held "
        "numbers do not count: bot_health, provider_health and outbox_refused have those.",
        ("bisnesctl status", "bisnesctl logs meta-worker --lines 50", "bisnesctl bots list"),
        (
            "bisnesctl restart meta-worker  # if nothing is sent at all",
            "Raise META_INSTANCES, or the number's rate, if the queue is just long.",
        ),
    ),
    labels=("process",),
    warning=Range(0, 120),
    critical=Range(0, 600),
    hold_seconds=60,
    explained_by=("postgres_health", "supervisord_health", "process_health", "outbox_progress", "response_time"),
    summary="the oldest {process} message that could be sent has waited for {value}",
)
OUTBOX_REFUSED = Signal(
    "outbox_refused",
    "Age of the oldest message that its provider refuses for now; 0 if none.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "The provider limits a chat (131056), a number or an account (130429, 80007), or an attempt failed and is "
        "repeated. Only these chats wait. Attempts are repeated within seconds, so a minute means that one failed "
        "several times; after half an hour customers notice.",
        ("bisnesctl why MESSAGE-ID  # the reason has the id", "bisnesctl queue list --state delayed"),
        (
            "Send less to this recipient or from this number.",
            "bisnesctl queue cancel MESSAGE-ID  # if the others of its chat must not wait",
        ),
    ),
    labels=("process",),
    warning=Range(0, 60),
    critical=Range(0, 1800),
    hold_seconds=15,
    explained_by=("postgres_health", "supervisord_health"),
    summary="a {process} message has waited for {value} because its provider refuses it for now: {reason}",
)
OUTBOX_PROGRESS = Signal(
    "outbox_progress",
    "Time for which messages have waited without any being finished; 0 if none waits.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "The workers live but send nothing: they hang, cannot reach the database or lost their work. A single send "
        "may take half a minute, so a minute is suspicious.",
        ("bisnesctl status", "bisnesctl logs meta-worker --lines 50"),
        ("bisnesctl restart meta-worker", "bisnesctl restart wwebjs-session"),
    ),
    labels=("process",),
    warning=Range(0, 60),
    critical=Range(0, 180),
    hold_seconds=30,
    explained_by=("postgres_health", "supervisord_health"),
    summary="no {process} message was finished for {value}, although some wait",
)
OUTBOX_GROWTH = Signal(
    "outbox_growth",
    "Growth of the waiting messages, in messages a minute, over half an hour; negative: they become fewer.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "More is accepted than is sent. A campaign does that for a while; for an hour it means that the workers or "
        "the limits of the numbers are too small. After an hour at 60 a minute, 3,600 messages are late.",
        ("bisnesctl status", "bisnesctl bots list"),
        ("Raise META_INSTANCES, or spread the campaign.",),
    ),
    labels=("process",),
    warning=Range(-math.inf, 60),
    hold_seconds=1800,
    explained_by=("postgres_health", "outbox_progress", "response_time"),
    summary="the queue of {process} grows by {value} messages a minute",
)
DEAD_LETTERS = Signal(
    "dead_letters",
    "Things that failed permanently and are kept for an operator, by kind.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "Kinds: messages, unknown messages, webhooks of providers (in) and to customers (out), media. They harm "
        "nothing; a hundred new ones within half an hour (dead_letters_growth) do.",
        ("bisnesctl dead-letters list", "bisnesctl dead-letters show ID"),
        ("bisnesctl dead-letters retry ID",),
    ),
    labels=("kind",),
)
DEAD_LETTERS_GROWTH = Signal(
    "dead_letters_growth",
    "New dead letters, a minute, over half an hour.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "Many at once have one cause: a credential, a template that was rejected, a customer's server. Single ones are "
        "ordinary.",
        ("bisnesctl dead-letters list",),
        ("Fix the cause, then: bisnesctl dead-letters retry ID",),
    ),
    labels=("kind",),
    warning=Range(-math.inf, 3),
    critical=Range(-math.inf, 60),
    hold_seconds=60,
    summary="{value} new dead letters a minute ({kind})",
)
UNKNOWN_MESSAGES = Signal(
    "unknown_messages",
    "Messages that may have been sent, without a status report for five minutes.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook(
        "The provider may have them, so they are never sent again by themselves. Later messages of their chats do not "
        "wait for them. Somebody has to ask the recipient and decide.",
        ("bisnesctl dead-letters list --kind unknown",),
        ("bisnesctl dead-letters resolve --as sent|failed|again ID",),
    ),
    warning=Range(0, 0),
    hold_seconds=600,
    summary="{value} messages may have been sent; nobody knows",
)
INBOX_WAITING = Signal(
    "inbox_waiting",
    "Webhooks of providers that are stored and not yet applied.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("inbox_oldest judges it."),
    labels=("process",),
)
INBOX_OLDEST = Signal(
    "inbox_oldest",
    "Age of the oldest webhook of a provider that is not yet applied.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "Customers see incoming messages and delivery reports this much later. Usually it is below a second.",
        ("bisnesctl status", "bisnesctl logs meta-worker --lines 50"),
        ("bisnesctl restart meta-worker",),
    ),
    labels=("process",),
    warning=Range(0, 60),
    critical=Range(0, 300),
    hold_seconds=30,
    explained_by=("postgres_health", "supervisord_health", "process_health"),
    summary="the oldest webhook of {process} has waited for {value}",
)
WEBHOOKS_WAITING = Signal(
    "webhooks_waiting",
    "Events that wait to be delivered to customers' webhooks, by whether the customer's server works.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("Those of `failing` webhooks wait for the customer's server. webhooks_oldest judges the others."),
    labels=("receiver",),
)
WEBHOOKS_OLDEST = Signal(
    "webhooks_oldest",
    "Age of the oldest event that waits for a customer's webhook whose server works.",
    Unit.SECONDS,
    Place.POSTGRESQL,
    Runbook(
        "The program `events` calls webhooks. It is down, or too slow for the number of events.",
        ("bisnesctl status", "bisnesctl logs events --lines 50"),
        ("bisnesctl restart events",),
    ),
    warning=Range(0, 120),
    critical=Range(0, 600),
    hold_seconds=60,
    explained_by=("postgres_health", "supervisord_health"),
    summary="the oldest event for a customer has waited for {value}",
)
WEBHOOKS_FAILING = Signal(
    "webhooks_failing",
    "Customers' webhooks whose last call failed.",
    Unit.COUNT,
    Place.POSTGRESQL,
    Runbook("The customers' servers do not answer. `GET /api/webhooks` shows each customer the reason."),
)
OUTBOX_SIGNALS = (OUTBOX_WAITING, OUTBOX_OLDEST, OUTBOX_REFUSED, OUTBOX_PROGRESS, OUTBOX_GROWTH)
DEAD_LETTER_SIGNALS = (DEAD_LETTERS, DEAD_LETTERS_GROWTH, UNKNOWN_MESSAGES)
WEBHOOK_SIGNALS = (INBOX_WAITING, INBOX_OLDEST, WEBHOOKS_WAITING, WEBHOOKS_OLDEST, WEBHOOKS_FAILING)
SIGNALS = (*OUTBOX_SIGNALS, *DEAD_LETTER_SIGNALS, *WEBHOOK_SIGNALS)

# The oldest unfinished message of each chat, as a claim finds it. One that waits for its next attempt is refused.
_OUTBOX = f"""
SELECT channel, state, sum(pending)::float,
    COALESCE(max(oldest.age) FILTER (WHERE NOT (waits AND attempts > 0)), 0)::float
FROM (
    SELECT p.process_name AS channel, l.bot_id, l.chat_id, l.pending, l.claim IS NULL AND l.due > now() AS waits,
        {FINISHED} AS finished,
        CASE WHEN p.held_until > now() OR p.paused_until > now()
                OR p.process_name = 'wwebjs' AND COALESCE(s.state, 'STOPPED') <> 'WORKING'
                THEN 'held'
            WHEN l.claim IS NULL AND l.due > now() + interval '1 minute' THEN 'delayed' ELSE 'ready' END AS state
    FROM lane l JOIN bot_pace p USING (bot_id) LEFT JOIN wa_session s USING (bot_id) WHERE l.pending > 0
) w LEFT JOIN LATERAL (
    SELECT GREATEST(extract(epoch FROM now() - accepted_at), 0) AS age, attempts FROM outbox o
    WHERE o.bot_id = w.bot_id AND o.chat_id = w.chat_id AND o.id > w.finished
        AND o.status IN ('queued', 'waiting', 'sending') AND w.state = 'ready'
    ORDER BY o.id LIMIT 1
) oldest ON true
GROUP BY channel, state"""
# A limit that an operator set for a WhatsApp Web number is a hold without a code too, and no refusal.
_REFUSED = f"""
SELECT DISTINCT ON (channel) channel, age, concat_ws(': ', message_id || ' of bot ' || company_id || '-' || phone_index,
    CASE WHEN throttled THEN held_reason ELSE NULLIF(concat_ws(': ', error_code, error), '') END),
    count(*) OVER (PARTITION BY channel)::int
FROM (
    SELECT p.process_name AS channel, l.bot_id, l.chat_id, p.held_until > now() AS throttled, p.held_reason,
        {FINISHED} AS finished
    FROM lane l JOIN bot_pace p USING (bot_id)
    WHERE l.pending > 0 AND p.outage_since IS NULL AND p.paused_until <= now()
        AND (l.claim IS NULL AND l.due > now() AND p.held_until <= now()
            OR p.held_until > now() AND isfinite(p.held_until) AND p.hold_code IS NULL AND p.process_name <> 'wwebjs')
) w CROSS JOIN LATERAL (
    SELECT GREATEST(extract(epoch FROM now() - accepted_at), 0)::float AS age, message_id, company_id, phone_index,
        attempts, error_code, error FROM outbox o
    WHERE o.bot_id = w.bot_id AND o.chat_id = w.chat_id AND o.id > w.finished
        AND o.status IN ('queued', 'waiting', 'sending')
    ORDER BY o.id LIMIT 1
) oldest
WHERE throttled OR attempts > 0 AND error_code IS DISTINCT FROM 'warming_up'
ORDER BY channel, age DESC"""
_INBOX = """
SELECT process_name, count(*)::float, COALESCE(max(GREATEST(extract(epoch FROM now() - received_at), 0)), 0)::float
FROM webhook_inbox WHERE processed_at IS NULL GROUP BY process_name"""
# The deliveries of each webhook are looked at once, and only where their age counts.
_WEBHOOKS = """
SELECT failing, COALESCE(sum(pending), 0)::float, COALESCE(max(age), 0)::float, count(*)::float
FROM (
    SELECT w.id, w.failures > 0 OR w.paused_until > now() AS failing,
        (SELECT sum(l.pending) FROM webhook_lane l WHERE l.webhook_id = w.id AND l.pending > 0) AS pending
    FROM webhook w WHERE w.active
) w LEFT JOIN LATERAL (
    SELECT extract(epoch FROM now() - min(created_at)) AS age FROM webhook_delivery d
    WHERE NOT w.failing AND d.webhook_id = w.id AND d.status = 'pending'
) oldest ON true
GROUP BY failing"""
_DEAD_LETTERS = """
SELECT 'messages', count(*)::float FROM failed_message
UNION ALL SELECT 'webhooks-in', count(*) FROM webhook_inbox WHERE error IS NOT NULL
UNION ALL SELECT 'webhooks-out', count(*) FROM webhook_delivery WHERE status <> 'pending' AND status = 'dead'
UNION ALL SELECT 'media', count(*) FROM media_download WHERE due = 'infinity'"""
_UNKNOWN = """
SELECT count(*)::float FROM unknown_message u JOIN outbox o USING (message_id)
WHERE u.since < now() - interval '5 minutes' AND o.status = 'unknown' AND u.resolution IS NULL"""


def read_outbox(
    connection: Connection, figures: Sequence[Figures], past: Mapping[str, Sequence[Sample]]
) -> Iterator[Reading]:
    """The messages that wait in the outbox. `figures`: of all instances, with the time since each finished one."""
    waiting = dict.fromkeys(((channel, state) for channel in CHANNELS for state in STATES), 0.0)
    oldest = dict.fromkeys(CHANNELS, 0.0)
    for channel, state, count, age in query(connection, _OUTBOX):
        waiting[channel, state] = count
        oldest[channel] = max(oldest.get(channel, 0.0), age if state == "ready" else 0.0)
    refused = dict(_read_refused(connection))
    for (channel, state), count in waiting.items():
        yield Reading(OUTBOX_WAITING, count, {"process": channel, "state": state})
    for channel, age in oldest.items():
        labels = {"process": channel}
        yield Reading(OUTBOX_OLDEST, age, labels)
        yield refused.get(channel, Reading(OUTBOX_REFUSED, 0.0, labels))
        yield Reading(OUTBOX_PROGRESS, min(age, _idle(channel, figures)), labels)
        yield from _growth(OUTBOX_GROWTH, labels, past)


def _read_refused(connection: Connection) -> Iterator[tuple[str, Reading]]:
    """For each channel with messages that its provider refuses for now: the reading of the oldest."""
    for channel, age, reason, chats in query(connection, _REFUSED):
        others = f"; {chats} chats wait" if chats > 1 else ""
        yield channel, Reading(OUTBOX_REFUSED, age, {"process": channel}, f"message {reason}{others}")


def _idle(channel: str, figures: Sequence[Figures]) -> float:
    """Seconds since any instance of a channel finished something."""
    return min(
        (
            done + each.age
            for each in figures
            if each.process in (channel, "legacy") and (done := each.number("idleSeconds")) is not None
        ),
        default=math.inf,
    )


def _growth(signal: Signal, labels: Mapping[str, str], past: Mapping[str, Sequence[Sample]]) -> Iterator[Reading]:
    samples = past.get(sample_name(*labels.values()), ())
    if samples and (each_second := history.slope(samples, samples[-1][0] - GROWTH_SECONDS)) is not None:
        yield Reading(signal, round(60 * each_second, 2), labels)


def sample_name(label: str) -> str:
    """The name of a channel's waiting messages, or of a kind's dead letters, in the history."""
    return f"{OUTBOX_WAITING.name if label in CHANNELS else DEAD_LETTERS.name}[{label}]"


def samples_of(readings: Sequence[Reading]) -> dict[str, float]:
    """The values that the history keeps."""
    found: dict[str, float] = {}
    for each in readings:
        if each.signal in (OUTBOX_WAITING, DEAD_LETTERS):
            name = sample_name(each.labels.get("process") or each.labels["kind"])
            found[name] = found.get(name, 0.0) + each.value
    return found


def read_dead_letters(connection: Connection, past: Mapping[str, Sequence[Sample]]) -> Iterator[Reading]:
    """The dead letters by kind."""
    unknown = float(query(connection, _UNKNOWN)[0][0])
    yield Reading(UNKNOWN_MESSAGES, unknown)
    counts = {"unknown": unknown} | dict(query(connection, _DEAD_LETTERS))
    for kind in KINDS:
        labels = {"kind": kind}
        yield Reading(DEAD_LETTERS, counts[kind], labels)
        yield from _growth(DEAD_LETTERS_GROWTH, labels, past)


def read_webhooks(connection: Connection) -> Iterator[Reading]:
    """Webhooks of providers that are not applied, and events that wait for customers."""
    inbox = dict.fromkeys(CHANNELS[:1], (0.0, 0.0)) | {
        process: (count, age) for process, count, age in query(connection, _INBOX)
    }
    for process, (count, age) in inbox.items():
        yield Reading(INBOX_WAITING, count, {"process": process})
        yield Reading(INBOX_OLDEST, age, {"process": process})
    rows = {failing: (count, age, webhooks) for failing, count, age, webhooks in query(connection, _WEBHOOKS)}
    nothing = (0.0, 0.0, 0.0)
    working, failing = rows.get(False, nothing), rows.get(True, nothing)
    yield Reading(WEBHOOKS_WAITING, working[0], {"receiver": "working"})
    yield Reading(WEBHOOKS_WAITING, failing[0], {"receiver": "failing"})
    yield Reading(WEBHOOKS_OLDEST, working[1])
    yield Reading(WEBHOOKS_FAILING, failing[2])
