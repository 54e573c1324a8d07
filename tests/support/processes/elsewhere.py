"""A worker on another machine, as a process of its own: `python -m tests.support.processes.elsewhere`.

Arguments: the database, a folder, the provider's URL, a host name, and the side that it serves if not both. A worker of
this machine has this machine's name, and shares the journals of the home in BISNES_HOME. Texts that
begin with `file` need a preparation, which makes `<folder>/preparing` and then waits for `<folder>/gate`.
"""

import os
import socket
import sys
import threading
from pathlib import Path

from services.connector import Preparation
from services.http_exchange import HttpRequest
from services.message import Bot, Outgoing
from tests.support.remote.message_provider import ProviderConnector, parse
from tests.support.waiting import HANG_SECONDS, wait_until


class PreparingConnector(ProviderConnector):
    """The connector to `Provider` that prepares files."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url)
        self._folder = folder

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest | Preparation:  # type: ignore[override]
        if message.payload["message"].startswith("file") and not (self._folder / "gate").exists():
            return Preparation(self._prepare)
        return super().request(bot, message)

    def _prepare(self) -> None:
        (self._folder / "preparing").touch()
        wait_until((self._folder / "gate").exists)


def main() -> None:
    dsn, folder, url, host, *sides = sys.argv[1:]
    instance = "meta-worker-9"
    if host != socket.gethostname():
        instance, os.environ["BISNES_HOME"] = "meta-worker-1", folder
    socket.gethostname = lambda: host
    from bisnesctl.bots.ownership import Side
    from bisnesctl.settings import load
    from services.channel import Channel, tuned_for_meta
    from services.database.connection import Database
    from services.runtime.account_cache import AccountCache

    settings, database = load(), Database(dsn, 4)
    accounts = AccountCache(database, settings.encryption_key.get_secret_value())
    accounts.start()
    connector = PreparingConnector(url, Path(folder))
    tuning = tuned_for_meta(settings, Side(sides[0]) if sides else None)
    channel = Channel(settings, database, accounts, connector, parse, tuning, instance, "a")
    channel.start()
    threading.Event().wait(20 * HANG_SECONDS)


if __name__ == "__main__":
    main()
