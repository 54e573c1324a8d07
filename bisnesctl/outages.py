"""Numbers whose provider cannot be reached, or serves nobody, as the database knows them."""

from dataclasses import dataclass

from bisnesctl.postgres import Connection, query

# One that nobody has found to last for long says nothing of now: nobody tries to send.
_FIND = """
SELECT c.company_id, c.phone_index, to_char(p.outage_since, CASE
           WHEN p.outage_since > now() - interval '20 hours' THEN 'HH24:MI' ELSE 'YYYY-MM-DD HH24:MI' END),
       p.outage_code || ': ' || p.outage_reason, extract(epoch FROM p.held_until - now())::float,
       (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id) AS waiting
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id
WHERE p.outage_reported AND p.outage_seen > now() - interval '5 minutes' AND p.held_until <> 'infinity'
ORDER BY c.company_id, c.phone_index"""


@dataclass(frozen=True, slots=True)
class Outage:
    """A number that sends nothing, though nothing is wrong with it."""

    company: str
    phone: int
    since: str  # the database's time: 12:03, with its date if it is of another day
    reason: str
    next_attempt: float  # seconds until then
    waiting: int  # messages

    def __str__(self) -> str:
        soon = f"in {self.next_attempt:.0f} s" if self.next_attempt >= 1 else "now"
        messages = "1 message waits" if self.waiting == 1 else f"{self.waiting} messages wait"
        return f"nothing is sent since {self.since}: {self.reason}; next attempt {soon}; {messages}"


def find(connection: Connection) -> list[Outage]:
    """The outages that last and keep messages waiting."""
    return [found for row in query(connection, _FIND) if (found := Outage(*row)).waiting]
