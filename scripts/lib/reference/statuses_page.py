"""`docs/reference/statuses.md`: every status of a message, and how it moves."""

from dataclasses import dataclass

from markdown_table import table

from services.message import Status


@dataclass(frozen=True, slots=True)
class About:
    """A status: its meaning, the statuses that may follow, and whether it is final."""

    meaning: str
    next: tuple[Status, ...]
    final: str


ABOUT = {
    Status.QUEUED: About(
        "The message is accepted and stored. It is sent when its turn in the chat comes.",
        (Status.SENDING, Status.WAITING, Status.FAILED),
        "no",
    ),
    Status.WAITING: About(
        "The number is held, for example because a token has expired, or its provider is unavailable. The queue is "
        "kept.",
        (Status.QUEUED, Status.SENDING, Status.FAILED),
        "no",
    ),
    Status.SENDING: About(
        "A worker is sending the message.",
        (Status.SENT, Status.UNKNOWN, Status.QUEUED, Status.WAITING, Status.FAILED),
        "no",
    ),
    Status.UNKNOWN: About(
        "The provider may have the message. It is never resent blindly; the provider's report decides.",
        (Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED),
        "no",
    ),
    Status.SENT: About(
        "The provider accepted the message.", (Status.DELIVERED, Status.READ, Status.FAILED), "if no report follows"
    ),
    Status.FAILED: About(
        "The message is not sent again. `error` has its code and the reason; see [Errors](errors.md).",
        (Status.DELIVERED, Status.READ),
        "yes, unless the provider reports that it was delivered after all",
    ),
    Status.DELIVERED: About("The message reached the recipient's phone.", (Status.READ,), "if no report follows"),
    Status.READ: About("The recipient read the message.", (), "yes"),
}

INTRODUCTION = """\
# Statuses

Every status of a message, and how it moves.
"""

RULES = """
A message moves `queued → sending → sent → delivered → read`, or ends as `failed`. Providers' reports may arrive late, \
repeated or in another order, but a status never moves backwards, except:

- A message of which an attempt failed for a reason that may pass is `queued` again, after a pause.
- A message that Meta accepted and then failed because it could not fetch its link is `queued` once more.
- A failed message that an operator retries with `bisnesctl dead-letters retry` is `queued` once more, and an unknown \
one with `bisnesctl dead-letters resolve --as again`.

`hold` in `GET /api/v2/messages/…` says what holds a message, whether it needs an operator (`needsOperator`), and when \
the next attempt is made. In a group, `delivered` and `read` mean all of its members.

Each step from `sent` on, and `failed` and `unknown`, causes an event `message.ack`; see [Events](events.md). With \
`?wait=`, a send is answered with the HTTP status 200 once the message is `sent`, `delivered` or `read`, 502 if it \
`failed`, and 202 otherwise.

## Received messages

A received message has the status `received`. A received or sent message that was deleted for everyone is `revoked`, \
and stays so if a later report says that it was read.
"""


def render() -> str:
    """The page."""
    rows = [
        (f"`{status}`", about.meaning, ", ".join(f"`{each}`" for each in about.next), about.final)
        for status, about in ABOUT.items()
    ]
    return f"{INTRODUCTION}\n{table(('status', 'meaning', 'what may follow', 'final'), rows)}\n{RULES}"
