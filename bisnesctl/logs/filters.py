"""Selects records: by time, level, pattern, bot, message."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bisnesctl.logs.files import LogFile
from bisnesctl.logs.formats import parse_fields
from bisnesctl.logs.records import Record
from bisnesctl.naming import session_name

#: Messages of one request that are followed, at most.
MAX_RELATED = 1000


@dataclass
class Filter:
    """Keeps the records that meet all conditions. A record that continues another one shares its fate."""

    since: float | None = None  # seconds since the epoch
    until: float | None = None
    level: int = 0
    patterns: tuple[re.Pattern[str], ...] = ()
    bot: "BotPattern | None" = None
    trace: "Trace | None" = None
    _kept: dict[LogFile, bool] = field(default_factory=dict)

    @property
    def keeps_all(self) -> bool:
        """Whether there is no condition."""
        return not (self.since or self.until or self.level or self.patterns or self.bot or self.trace)

    def keeps(self, record: Record) -> bool:
        """Whether a record is shown. To be asked for the records of a stream in their order."""
        if record.continues and record.file in self._kept:
            return self._kept[record.file]
        kept = self._kept[record.file] = self._meets(record)
        return kept

    def _meets(self, record: Record) -> bool:
        return (
            record.level >= self.level
            and (self.since is None or record.time >= self.since)
            and (self.until is None or record.time <= self.until)
            and all(pattern.search(record.text) for pattern in self.patterns)
            and (self.bot is None or self.bot.matches(record))
            and (self.trace is None or self.trace.matches(record))
        )


class BotPattern:
    """Finds the records about one bot: those of its own process, and those of others that name it."""

    def __init__(self, company: str, phone_index: int, bot_id: int | None = None) -> None:
        """`bot_id`: its row in the database, which some lines name; None: it is not known."""
        name = f"{company}-{phone_index}"
        self._instance, self._company, self._phone = session_name(company, phone_index), company, str(phone_index)
        self._bot_id = None if bot_id is None else str(bot_id)
        self._name = _token([name])
        self._parts = re.compile(rf"(?:{_token([company]).pattern})|\bbot={bot_id}\b")

    def matches(self, record: Record) -> bool:
        """Whether the record is about the bot."""
        if record.file.instance == self._instance or self._name.search(record.text):
            return True
        if not self._parts.search(record.text):
            return False
        fields = parse_fields(record.text)
        if self._bot_id is not None and fields.get("bot") == self._bot_id:
            return True
        phone = fields.get("phone", fields.get("phone_index"))
        return (fields.get("company"), phone) == (self._company, self._phone)


class Trace:
    """Finds the records of one message, by its id or that of its request, through all processes.

    A request id that a client chose may be that of many messages: the records of other messages are left out.
    """

    def __init__(self, wanted: str, records: Iterable[Record] = ()) -> None:
        """`wanted`: an id of a message or a request. `records`: those in which the other ids are found."""
        self._wanted = wanted
        self._messages: set[str] = set()
        self._requests: set[str] = set()
        for fields in _mentions(wanted, records):
            self._learn(fields)
        self._compile()

    @property
    def request_ids(self) -> list[str]:
        """The requests that the records name beside the message."""
        return sorted(self._requests)

    def matches(self, record: Record) -> bool:
        """Whether the record is about the message."""
        if not self._pattern.search(record.text):
            return False
        if self._only.search(record.text):
            self._note(record)
            return True
        message = parse_fields(record.text).get("message_id")
        return message is None or message in self._messages

    def _note(self, record: Record) -> None:
        """Learn from a record that is read while the logs are followed."""
        before = len(self._messages), len(self._requests)
        self._learn(parse_fields(record.text))
        if (len(self._messages), len(self._requests)) != before:
            self._compile()

    def _learn(self, fields: dict[str, str]) -> None:
        message, request = fields.get("message_id", ""), fields.get("request_id", "")
        if request and self._wanted in (message, request):
            self._requests.add(request)
        if message and request == self._wanted and len(self._messages) < MAX_RELATED:
            self._messages.add(message)

    def _compile(self) -> None:
        self._only = _token([self._wanted, *self._messages])
        self._pattern = _token([self._wanted, *self._messages, *self._requests])


def _mentions(wanted: str, records: Iterable[Record]) -> Iterator[dict[str, str]]:
    pattern = _token([wanted])
    for record in records:
        if pattern.search(record.text):
            yield parse_fields(record.text)


def _token(words: Iterable[str]) -> re.Pattern[str]:
    """Finds one of the words, not as a part of a longer one."""
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])")
