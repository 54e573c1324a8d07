"""The rows that are deleted, and when: one table, in the order of a run.

Tables of the former system are touched as its own clean-up did: `process_metrics` and `process_events` alone. History,
contacts and bots are never deleted.
"""

from dataclasses import dataclass

from bisnesctl.database.quotas import IDEMPOTENCY_KEY_DAYS
from bisnesctl.retention.deliveries import StuckDeliveries
from bisnesctl.retention.outbox import FinishedMessages
from bisnesctl.retention.removal import CUTOFF, OldestRows, Removal, Rows
from bisnesctl.settings import Settings

#: Days for which failed deliveries are kept at least, so that an operator can look at them.
DEAD_DAYS = 30
#: The kind of the files that no message has; the services remove them.
FILES = "files"


@dataclass(frozen=True)
class Rule:
    """The old rows of one kind."""

    #: As `retention_run.deleted` has it.
    name: str
    table: str
    #: Which rows of the table.
    rows: str
    #: Days, or the name of the setting with the days.
    kept: int | str
    removal: Removal
    #: The rule whose rows refer to these, and which must have succeeded before.
    after: str | None = None

    def days(self, settings: Settings) -> int:
        """The days for which the rows are kept. Raises `ConfigError` if the setting is refused."""
        return self.kept if isinstance(self.kept, int) else int(getattr(settings, self.kept))

    @property
    def setting(self) -> str | None:
        """The variable with the days; None: they are fixed."""
        return self.kept.upper() if isinstance(self.kept, str) else None


def _rows(name: str, table: str, rows: str, kept: int | str, condition: str, after: str | None = None) -> Rule:
    return Rule(name, table, rows, kept, Rows(table, condition), after)


RULES: tuple[Rule, ...] = (
    _rows("metrics", "process_metrics", "all", 7, f"timestamp < {CUTOFF}"),
    _rows(
        "events", "process_events", "of severity info and warning; others are kept permanently", 30,
        f"severity IN ('info', 'warning') AND timestamp < {CUTOFF}",
    ),
    _rows("instances", "process_instances", "of processes that gave no heartbeat", 1, f"last_heartbeat < {CUTOFF}"),
    _rows("commands", "wa_command", "commands to WhatsApp Web sessions", 1, f"created_at < {CUTOFF}"),
    _rows("keys", "wa_key", "keys of messages of WhatsApp Web", 90, f"created_at < {CUTOFF}"),
    _rows("counts of sent", "wa_sent", "messages of WhatsApp Web by the hour", 2, f"hour < {CUTOFF}"),
    _rows("changes of messages", "message_change", "all", 7, f"seen_at < {CUTOFF}"),
    _rows(
        "unknown messages", "unknown_message", "of messages whose outcome is known by now", 30,
        f"since < {CUTOFF} AND NOT EXISTS (SELECT FROM outbox o WHERE o.message_id = unknown_message.message_id"
        " AND o.status = 'unknown')",
    ),
    _rows("trial copies", "trial_copy", "all", 7, f"copied_at < {CUTOFF}"),
    _rows("audit records", "audit_record", "all", "audit_keep_days", f"at < {CUTOFF}"),
    Rule(
        "failed deliveries", "webhook_delivery", "that no webhook accepted: they become dead letters",
        "events_keep_days", StuckDeliveries(),
    ),
    _rows("deliveries", "webhook_delivery", "delivered", "events_keep_days",
          f"status = 'delivered' AND updated_at < {CUTOFF}"),
    _rows(
        "dead deliveries", "webhook_delivery", f"dead letters, for {DEAD_DAYS} days at least", "events_keep_days",
        f"status = 'dead' AND updated_at < LEAST({CUTOFF}, %(now)s::timestamptz - interval '{DEAD_DAYS} days')",
    ),
    _rows(
        "events of companies", "event", "that no delivery waits for", "events_keep_days",
        f"""created_at < {CUTOFF} AND NOT EXISTS (
            SELECT FROM webhook w JOIN webhook_delivery d ON d.webhook_id = w.id AND d.seq = event.seq
                AND d.status = 'pending'
            WHERE w.company_id = event.company_id)""",
    ),
    Rule(
        "webhooks", "webhook_inbox", "applied; those that could not be applied are kept permanently", "inbox_keep_days",
        OldestRows("webhook_inbox", "received_at", f"processed_at < {CUTOFF} AND error IS NULL"),
    ),
    _rows("idempotency keys", "idempotency_keys", "all", IDEMPOTENCY_KEY_DAYS, f"created_at < {CUTOFF}"),
    Rule(
        "messages", "outbox",
        "sent, delivered, read or failed; those that wait or whose outcome is unknown are kept permanently",
        "outbox_keep_days", FinishedMessages(), after="idempotency keys",
    ),
)  # fmt: skip


def check(settings: Settings) -> None:
    """Raises `ConfigError` if a setting with days is refused."""
    for rule in RULES:
        rule.days(settings)
