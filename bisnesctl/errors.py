"""Every error that the operator may see: its docstring is the default message, `exit_code` is for the shell."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What `bisnesctl` ends with. `health --probe` alone speaks the codes of monitoring plugins instead."""

    OK = 0
    FAILED = 1  # something unexpected went wrong
    USAGE = 2  # an unknown command, option or name
    CONFIG = 3  # a setting is missing or wrong
    UNAVAILABLE = 4  # PostgreSQL, Redis, the API, a provider or supervisord cannot be reached
    UNHEALTHY = 5  # a process did not start, or a process or number is not healthy
    CONFLICT = 6  # something is in the way: a port, a folder, a full disk, another bisnesctl
    INTERRUPTED = 130  # Ctrl-C

    @property
    def meaning(self) -> str:
        """What the code says, in a few words for the help text."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "an unexpected failure",
    ExitCode.USAGE: "a wrong command, option or name",
    ExitCode.CONFIG: "a setting is missing or wrong",
    ExitCode.UNAVAILABLE: "PostgreSQL, Redis, the API, a provider or supervisord cannot be reached",
    ExitCode.UNHEALTHY: "a process did not start, or a process or number is not healthy",
    ExitCode.CONFLICT: "something is in the way: a port, a folder, a full disk, another bisnesctl",
    ExitCode.INTERRUPTED: "interrupted",
}


class BisnesError(Exception):
    """Something went wrong."""

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n\n")[0])


class UsageError(BisnesError):
    """That name or option is not known. See `bisnesctl --help`."""

    exit_code = ExitCode.USAGE


class ConfigError(BisnesError):
    """The settings are not complete. Run `bisnesctl init`, then look into `.env`."""

    exit_code = ExitCode.CONFIG


class Unavailable(BisnesError):
    """A service that is needed cannot be reached."""

    exit_code = ExitCode.UNAVAILABLE


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached. See `bisnesctl status`, or DATABASE_URL in `.env`."""


class RedisUnavailable(Unavailable):
    """Redis cannot be reached. See `bisnesctl status`, or REDIS_URL in `.env`."""


class ApiUnavailable(Unavailable):
    """The API cannot be reached. See `bisnesctl status`, or start it: `bisnesctl start --multiprocess`."""


class NotRunning(Unavailable):
    """Nothing is running here. Start it: `bisnesctl start --multiprocess`."""


class ShuttingDown(NotRunning):
    """supervisord is about to end. Wait a moment, then see `bisnesctl status`."""


class SupervisorFault(BisnesError):
    """supervisord refused a call."""


class MigrationsPending(BisnesError):
    """The database lacks migrations. Apply them: `bisnesctl migrate`."""

    exit_code = ExitCode.CONFIG


class MigrationError(BisnesError):
    """A migration failed; nothing of it was applied."""


class Unhealthy(BisnesError):
    """A process is not healthy. See `bisnesctl status` and `bisnesctl logs`."""

    exit_code = ExitCode.UNHEALTHY


class StartFailed(Unhealthy):
    """A process did not start. See `bisnesctl logs`."""


class Conflict(BisnesError):
    """Something is in the way."""

    exit_code = ExitCode.CONFLICT


class PortTaken(Conflict):
    """A port that is needed is taken by another process."""


class CannotWrite(Conflict):
    """A file cannot be written."""
