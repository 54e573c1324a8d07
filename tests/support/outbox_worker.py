"""A worker that sends from the outbox, as a part of the test's own process."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisnesctl.bots.ownership import Side
from bisnesctl.encryption import encrypt_shared
from bisnesctl.settings import Settings, load
from services.channel import Channel, tuned_for_meta
from services.outbox.accept import Acceptor, Entry
from services.runtime.account_cache import AccountCache
from tests.support.outbox import add_bot, execute, open_database
from tests.support.remote.message_provider import Provider, ProviderConnector, parse
from tests.support.waiting import HANG_SECONDS, wait_until

KEY = "0f" * 32


class Stage:
    """A channel, an acceptor and a provider, on a database of the test's own."""

    def __init__(self, dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = {
            "BISNES_ENV": folder / "none",
            "BISNES_HOME": folder,
            "ENCRYPTION_KEY": KEY,
            "META_WINDOW": 8,
            "META_MAX_MESSAGES_PER_SECOND": 100_000,
            "META_BACKOFF_MS": 50,
            "SEND_TIMEOUT_MS": 30_000,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        self.settings: Settings = load()
        self.database, self.connection = open_database(dsn)
        self.directory = AccountCache(self.database, KEY)
        self.directory.start()
        self.provider = Provider()
        self.connector: Any = ProviderConnector(self.provider.url)
        self.intake = Acceptor(self.database, self)
        self.senders: list[Channel] = []

    def notify(self, queue_name: str) -> None:
        """Wake a session: there is none."""

    def bot(self, index: int = 0) -> int:
        """Add a bot with a token. Returns its id."""
        bot = add_bot(self.connection, index=index)
        execute(self.connection, "UPDATE phone_configs SET meta_access_token_encrypted = %s WHERE id = %s",
                (encrypt_shared(KEY, f"token-{index}"), bot))  # fmt: skip
        return bot

    def accept(self, *entries: Entry) -> None:
        """Accept the messages at the same time."""
        for future in [self.intake.accept(each) for each in entries]:
            future.result(HANG_SECONDS)

    def sender(self, instance: str = "meta-worker-1", run: str = "run1") -> Channel:
        """A started channel."""
        sender = self._sender(instance, run)
        sender.start()
        return sender

    def listening_sender(self, instance: str = "meta-worker-1") -> Channel:
        """A started channel to which accepted messages are announced."""
        sender = self._sender(instance, "run1", is_announced_to=True)
        sender.start()
        return sender

    def sender_of(self, side: Side) -> Channel:
        """A started channel that serves the bots of one side."""
        sender = self._sender("meta-worker-1", "run1", side)
        sender.start()
        return sender

    def sender_that_waits(self, told: Callable[[str], None]) -> Channel:
        """A channel that starts in the background, and calls `told` with the reason for which it waits."""
        sender = self._sender("meta-worker-1", "run1")
        threading.Thread(target=sender.start, args=(None, told), daemon=True).start()
        return sender

    def _sender(
        self, instance: str, run: str, side: Side | None = None, is_announced_to: bool = False
    ) -> Channel:  # fmt: skip
        sender = Channel(
            self.settings, self.database, self.directory, self.connector, parse, tuned_for_meta(self.settings, side),
            instance, run, is_announced_to=is_announced_to,
        )  # fmt: skip
        self.senders.append(sender)
        return sender

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds. The failure shows the number of messages of each status."""
        wait_until(condition, what=lambda: str(self.statuses()), pause=0.02)

    def statuses(self) -> dict[str, int]:
        """The number of messages of each status."""
        return dict(execute(self.connection, "SELECT status::text, count(*) FROM outbox GROUP BY 1"))

    def close(self) -> None:
        """Stop everything."""
        for sender in self.senders:
            sender.stop(5)
        self.intake.close()
        self.directory.stop()
        self.provider.close()
        self.connection.close()
        self.database.close()
