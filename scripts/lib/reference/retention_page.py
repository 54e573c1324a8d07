"""`docs/reference/retention.md`: what is deleted when."""

from markdown_table import table

from bisnesctl.retention.records import CONTINUE_SECONDS, RETRY_SECONDS, RUN_INTERVAL_SECONDS
from bisnesctl.retention.rules import FILES, RULES, Rule
from bisnesctl.settings import Settings

INTRODUCTION = f"""\
# Retention

The rows and files that are deleted, when, and by which process.

The process `events` deletes old rows every {RUN_INTERVAL_SECONDS / 60:.0f} minutes; after a rollback the legacy \
process does. If there are several, on one or more machines, one of them does so at a time. It deletes small batches \
with pauses, and waits for no row that somebody else uses: such a row is deleted by a later run. A run that was \
killed is continued within seconds, one that left something after {CONTINUE_SECONDS:.0f} seconds, and one that failed \
is repeated after {RETRY_SECONDS / 60:.0f} minutes. \
For an hour after the clock of PostgreSQL was set forward nothing is deleted.

`bisnesctl clean-up --dry-run` counts what is old now and shows the last run; `bisnesctl clean-up` deletes it at once. \
The signal [`retention_age`](../runbooks.md#retention_age) warns if the deletion stops or fails.

## Rows

In the order of a run. The table `retention_run` has the numbers of the last run by kind.

"""

REST = """

A message is deleted from the outbox with its [status](statuses.md) of the API, if it is not in the history: sent \
messages are, and stay there. `OUTBOX_KEEP_DAYS` counts from its last change, such as a status report, and is never \
less than idempotency keys last: a repeated request always finds its message. In the counts of `bisnesctl queue \
stats`, `completed` and `failed` are messages that are kept.

## Files

A file of the media store is removed if no message has it any more: a day after its upload if its message was never \
accepted, and with its message if that is deleted from the outbox and not in the history. Old logs of instances that \
are gone are removed by `bisnesctl clean-up`, which `bisnesctl cron install` calls every night.

## Never deleted

The history (`messages`), contacts, bots, settings of companies, messages that wait or whose outcome is unknown, \
webhooks of providers that could not be applied, and process events of severity error and critical. The tables \
of the former server are not touched, except `process_metrics` and `process_events`, which it kept equally long.
"""


def render() -> str:
    """The page."""
    rows = [(f"`{each.name}`", f"`{each.table}`", each.rows, _days(each)) for each in RULES]
    files = (f"`{FILES}`", "", "files of the media store that no message has", "")
    return f"{INTRODUCTION}{table(('kind', 'table', 'rows', 'kept for days'), [*rows, files])}{REST}"


def _days(rule: Rule) -> str:
    if rule.setting is None:
        return str(rule.kept)
    return f"`{rule.setting}` ({Settings.model_fields[str(rule.kept)].default})"
