"""The errors that an operator may see: the docstring is the default message, `exit_code` is for the shell."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of `bisnesctl`. Only `health --probe` uses the codes of monitoring plugins instead."""

    OK = 0
    FAILED = 1  # an unexpected error
    USAGE = 2  # an unknown command, option or name
    CONFIG = 3  # a setting is missing or wrong
    UNAVAILABLE = 4  # PostgreSQL, Redis, the API, a provider or supervisord cannot be reached
    UNHEALTHY = 5  # a process did not start, or a process or bot is not healthy
    CONFLICT = 6  # a port in use, a folder, a full disk or another bisnesctl prevents it
    NO_DEPLOYMENT = 7  # there is no deployment in this folder
    INTERRUPTED = 130  # Ctrl-C
    PIPE_CLOSED = 141  # the reader of the output has ended: 128 and the number of SIGPIPE

    @property
    def meaning(self) -> str:
        """The meaning for the help text."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "an unexpected error",
    ExitCode.USAGE: "a wrong command, option or name",
    ExitCode.CONFIG: "a setting is missing or wrong",
    ExitCode.UNAVAILABLE: "PostgreSQL, Redis, the API, a provider or supervisord cannot be reached",
    ExitCode.UNHEALTHY: "a process did not start, or a process or bot is not healthy",
    ExitCode.CONFLICT: "a port in use, a folder, a full disk or another bisnesctl prevents it",
    ExitCode.NO_DEPLOYMENT: "there is no deployment in this folder",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE_CLOSED: "the reader of the output, such as head, has ended",
}


class BisnesError(Exception):
    """An unexpected error occurred."""

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n\n")[0])


class UsageError(BisnesError):
    """This name or option is unknown. See `bisnesctl --help`."""

    exit_code = ExitCode.USAGE


class ConfigError(BisnesError):
    """The settings are incomplete. Run `bisnesctl init`, then edit `.env`."""

    exit_code = ExitCode.CONFIG


class Unavailable(BisnesError):
    """A required service cannot be reached."""

    exit_code = ExitCode.UNAVAILABLE


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached. See `bisnesctl status`, or DATABASE_URL in `.env`."""


class RedisUnavailable(Unavailable):
    """Redis cannot be reached. See `bisnesctl status`, or REDIS_URL in `.env`."""


class ApiUnavailable(Unavailable):
    """The API cannot be reached. See `bisnesctl status`."""


class NotRunning(Unavailable):
    """Nothing is running here. See `bisnesctl status`."""


class NoDeployment(BisnesError):
    """There is no deployment here. Change to its folder, or name its `.env` with BISNES_ENV."""

    exit_code = ExitCode.NO_DEPLOYMENT


class ShuttingDown(NotRunning):
    """supervisord is shutting down. Wait a moment, then see `bisnesctl status`."""


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
    """Something prevents this command."""

    exit_code = ExitCode.CONFLICT


class PortTaken(Conflict):
    """A required port is in use by another process."""


class CannotWrite(Conflict):
    """A file cannot be written."""


class NotPermitted(Conflict):
    """A file belongs to another user."""
