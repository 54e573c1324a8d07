"""The start of a process: what every program needs before its own work."""

import os
import secrets
import signal
import threading
from collections.abc import Callable
from functools import cached_property

import structlog

from bisnesctl.errors import ConfigError
from bisnesctl.logs import levels
from bisnesctl.settings import ESSENTIAL, Settings, load_partly
from services.database.connection import Database
from services.runtime import logging_setup
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters, Heartbeat

log = structlog.get_logger()


class Process:
    """One running instance of a program. It connects to nothing until a property is used."""

    def __init__(self, settings: Settings, name: str, pool_size: int = 1) -> None:
        """`name`: the instance's name if the environment has none, as in tests; `pool_size`: connections at most."""
        self.settings = settings
        self.instance = os.environ.get("BISNES_INSTANCE", name)  # the same after a restart
        self.run = secrets.token_hex(4)  # the name of this start
        self.stopping = threading.Event()
        self._pool_size = pool_size

    @classmethod
    def from_environment(cls, name: str, pool_size: Callable[[Settings], int] = lambda _: 1) -> "Process":
        """A process with the settings of its environment, which logs as they say.

        A value that is refused must not stop a process that is started again: it uses the default. Raises
        `ConfigError` if the default could do harm.
        """
        found = load_partly()
        settings = found.with_defaults(but=ESSENTIAL)
        if settings.problems:
            raise ConfigError("\n".join(settings.problems.values()))
        logging_setup.configure(settings.log_level)
        for setting, reason in found.problems.items():
            log.error("setting.refused", setting=setting, reason=reason)
        process = cls(settings, name, pool_size(settings))
        levels.watch(settings.run_dir, process.instance, settings.log_level)
        return process

    @cached_property
    def database(self) -> Database:
        """The pool of connections."""
        return Database(self.settings.database_dsn, self._pool_size, self.instance)

    @cached_property
    def accounts(self) -> AccountCache:
        """The keys and bots, which begins to listen for changes."""
        accounts = AccountCache(self.database, self.settings.decryption_keys)
        accounts.start()
        return accounts

    def stop_on_signals(self) -> None:
        """Set `stopping` on SIGTERM and SIGINT, for a process that no server such as gunicorn stops."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: self.stopping.set())

    def heartbeat(self, program: str, counters: Counters) -> Heartbeat:
        """The heartbeat of this process as an instance of a program."""
        counters.pool = self.database.use
        return Heartbeat(self.settings, self.database, program, self.instance, os.getpid(), counters)
