"""The last step before a message leaves: its mark, and the look whether its claim still holds.

A worker that slept beyond its lease (a paused machine, SIGSTOP) may wake up after another one has taken over. So a
message leaves only within the lease of its claim, and a claim that is older is renewed first; the database refuses that
if the claim has passed to another worker. A marked message may have left, and nobody else sends it. An unmarked one has
not left, and the worker that takes over sends it. Marks are in the worker's journal, which `send_journal` describes and
reads for others.
"""

import errno
import fcntl
import math
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from bisnesctl.host import disk, process_times
from services.connector import Request
from services.database.connection import Connection
from services.http_client import InFlight
from services.message import Bot, Outgoing
from services.outbox import send_journal
from services.outbox.store import Outbox

#: Seconds between two tries to write a journal that could not be written.
JOURNAL_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class JournalInUse(Exception):
    """Another process runs under the same instance name."""


class Journal:
    """The marks of the messages that may have left. The file stays locked as long as the process lives.

    The whole file is written at the beginning, so that marks need no further space on a disk that is full by then. If a
    mark cannot be written, an `OSError` is raised and the message must not leave: nobody would know that it may have.
    """

    def __init__(self, path: Path, slots: int) -> None:
        """Lock the file; if the disk refuses, `begin` tries again. Raises `JournalInUse`."""
        self._path, self._slots = path, slots
        self._stamp = b""  # of this run, once it has begun
        self._file: int | None = None
        self._retry_due = 0.0  # by time.monotonic()
        self.trouble: str | None = None  # why nothing can be marked
        with suppress(OSError):
            self.lock()

    def lock(self) -> None:
        """Lock the file; the marks of an earlier run stay readable until `begin`.

        Raises `JournalInUse`, and `OSError` if the disk refuses.
        """
        if self._file is not None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._note(error)
            raise
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise JournalInUse(f"another process holds {self._path}") from error
        self._file = file

    def begin(self, run: str) -> None:
        """Replace the earlier marks by those of this run, called `run`. Raises `OSError`."""
        self.lock()
        assert self._file is not None  # noqa: S101
        self._stamp = send_journal.stamp(run)
        content = self._stamp + bytes(self._slots * send_journal.MARK.size)
        self._write(content, 0)
        os.ftruncate(self._file, len(content))
        self.trouble = None

    def mark(self, slot: int, message: int) -> None:
        """Mark that the message (its outbox id) in this slot is about to leave. Raises `OSError`: then it must not."""
        assert self._stamp, "begin() comes first"  # noqa: S101
        self._write(send_journal.MARK.pack(message), send_journal.HEADER_BYTES + slot * send_journal.MARK.size)

    def clear(self, slot: int) -> None:
        """Clear the mark of a message whose outcome is stored. A mark that stays does no harm: its message is
        finished."""
        with suppress(OSError):
            self.mark(slot, 0)

    def usable(self) -> bool:
        """Whether messages can be marked: not before `begin`; after a failure, that is tried every second."""
        if self.trouble is not None and self._stamp and time.monotonic() >= self._retry_due:
            with suppress(OSError):
                self._write(self._stamp, 0)
                self.trouble = None
        return bool(self._stamp) and self.trouble is None

    def _write(self, content: bytes, at: int) -> None:
        assert self._file is not None  # noqa: S101
        try:
            if os.pwrite(self._file, content, at) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError as error:
            self._note(error)
            raise

    def _note(self, error: OSError) -> None:
        if self.trouble is None:
            log.error("journal.not_writable", effect="nothing is sent until it can be written", reason=str(error))
        self.trouble = disk.explain(error, self._path)
        self._retry_due = time.monotonic() + JOURNAL_RETRY_SECONDS

    def close(self) -> None:
        """Close the file; its marks stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class ClaimExpired(Exception):
    """The claim of the message may have passed to another worker."""


@dataclass(slots=True)
class InHand:
    """A claimed message and the slot of the journal that it occupies until its outcome is recorded."""

    message: Outgoing
    slot: int
    leaves_before: float  # by CLOCK_BOOTTIME, which counts the time in which the machine slept
    marked: bool  # whether the database says that it may have left
    steps: int = 0  # how often the connector was asked for the next step
    probed: bool = False  # whether it was checked that its number's outage is over
    expired: bool = False  # whether it did not leave, because its claim was too old
    bot: Bot | None = None  # as it was when the connector was last asked
    left_at: float = 0.0  # when its last request was sent, by time.monotonic()


class Departures:
    """Lets messages leave. One thread calls it."""

    def __init__(self, outbox: Outbox, journal: Journal, window: InFlight) -> None:
        self._outbox, self._journal, self._window = outbox, journal, window
        # The one process that serves a bot keeps its claims as long as it lives.
        self._lease_seconds = outbox.lease if outbox.bot_id is None else math.inf
        self._waiting: list[tuple[InHand, Request]] = []

    @property
    def are_waiting(self) -> bool:
        """Whether `mark` has something to do."""
        return bool(self._waiting)

    def in_hand(self, claimed: Iterable[Outgoing], slots: list[int], began: float) -> list[InHand]:
        """The messages with a slot each; `began`: by CLOCK_BOOTTIME, before they were claimed."""
        until = began + self._lease_seconds
        return [InHand(message, slots.pop(), until, not message.unmarked) for message in claimed]

    def begin(self, hand: InHand, request: Request) -> None:
        """Send the message now, or once `mark` has marked it.

        Raises `OSError` if the journal cannot be written: then it must not leave.
        """
        if hand.marked and not hand.expired:
            hand.left_at = time.monotonic()
            self._window.submit(hand, request, partial(self._check, hand))
        else:
            self._waiting.append((hand, request))

    def mark(self, connection: Connection) -> tuple[list[tuple[InHand, Request]], list[InHand]]:
        """Mark the messages that wait for it, all in one statement.

        Returns those that may leave now, which `begin` sends, and those whose claims were lost.
        """
        began = process_times.boottime()
        valid = self._outbox.mark(connection, [hand.message for hand, _ in self._waiting])
        waiting, self._waiting = self._waiting, []
        ready, lost = [], []
        for hand, request in waiting:
            message = hand.message
            if (message.bot_id, message.chat_id, message.fence) in valid:
                hand.marked, hand.expired, hand.leaves_before = True, False, began + self._lease_seconds
                ready.append((hand, request))
            else:
                lost.append(hand)
        return ready, lost

    def _check(self, hand: InHand) -> None:
        """Called right before the first byte leaves. Raises `ClaimExpired`, and `OSError` of the journal.

        It is marked first: a worker that takes over after the lease must see the mark of a message that left within it.
        """
        self._journal.mark(hand.slot, hand.message.id)
        if process_times.boottime() >= hand.leaves_before:
            self._journal.clear(hand.slot)
            hand.expired = True
            raise ClaimExpired("its claim is too old and must be renewed first")
