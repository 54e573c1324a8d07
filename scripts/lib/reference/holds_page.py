"""`docs/reference/holds.md`: every hold of a number, and what ends it."""

from markdown_table import table

from bisnesctl.bots import hold_ends
from bisnesctl.bots.check_records import FIRST_RETURN_MINUTES, LONGEST_RETURN_MINUTES

INTRODUCTION = """\
# Holds

Every reason for which a number sends nothing, with its queue kept, and what ends it.

`bisnesctl bots list`, `bisnesctl status`, `GET /api/bots` and `hold` in `GET /api/v2/messages/…` show a hold with its \
reason. The customer gets the event `bot.status` with `waiting`, and with `active` once the hold has ended.

## Holds with a cause

The code begins the reason. A check is made every `BOT_CHECK_MINUTES`, and at once by `bisnesctl bots verify`. If it \
finds the number well, the hold ends and the next message is sent. A new credential ends any hold.

"""

REST = f"""
If the same cause comes back within a day, the next check does not end the hold at once: it stays for \
{FIRST_RETURN_MINUTES} minutes, then twice as long each time, up to {LONGEST_RETURN_MINUTES // 60} hours. \
`bisnesctl bots verify` does not wait.

An update of Meta is read as a whole: DISABLED_UPDATE with SCHEDULE_FOR_DISABLE is a warning, with \
REINSTATE its end; a violation is a warning. A restriction of messages holds the account's numbers until it expires. \
Updates that are not known hold nothing. All of them are events, and are stored in `process_events`.

## Other holds

A pause is independent of all other holds: neither a check nor a new credential ends it, and its end does not end them.

"""

OTHERS = (
    (
        "an operator paused the bot (`bisnesctl queue pause`)",
        "the end of `--for`, if it was given",
        "`bisnesctl queue resume`",
    ),
    ("the linking of the number is not finished", "never", f"`{hold_ends.command_for(None)}`"),
    ("an outage of the provider", "the first message that gets through, tested at least every minute", ""),
    ("throttling by the provider (130429, 80007, HTTP 429 …)", "seconds to minutes", ""),
    ("warm-up of a WhatsApp Web number", "the next hour or day", "`bisnesctl bots limit`"),
    ("failed starts of a WhatsApp Web session", "an hour", "`bisnesctl bots unblock`"),
)


def render() -> str:
    """The page."""
    rows = [
        (each.cause, _codes(each.codes), each.by_itself, f"`{hold_ends.command_for(each.codes[0])}`")
        for each in hold_ends.TABLE
    ]
    causes = table(("cause", "codes", "ends by itself with", "command"), rows)
    return f"{INTRODUCTION}{causes}{REST}{table(('hold', 'ends by itself with', 'command'), OTHERS)}"


def _codes(codes: tuple[str, ...]) -> str:
    shown = [f"`{code}`" for code in codes if not (code.isdigit() and 200 <= int(code) < 300)]
    return ", ".join(shown + (["`200` to `299`"] if "200" in codes else []))
