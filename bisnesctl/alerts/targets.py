"""The targets of alerts in the settings: the addresses in ALERT_URLS, and ALERT_COMMAND."""

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from bisnesctl.errors import ConfigError
from bisnesctl.settings import Settings

_KEY_DIGITS = 16


@dataclass(frozen=True)
class Target:
    """A place that messages are sent to. Its `repr` shows no secret."""

    #: Its name for people: `slack 1`, `command`.
    label: str
    #: An address of Apprise; empty: the command.
    url: str = field(default="", repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        """Its name in the state file, which does not show the address."""
        return hashlib.blake2b("\0".join((self.url, *self.command)).encode()).hexdigest()[:_KEY_DIGITS]


def find_targets(settings: Settings) -> list[Target]:
    """The targets, in the order of the settings. Raises `ConfigError` that shows no secret."""
    urls = list(dict.fromkeys(_urls(settings)))
    found = [Target(f"{_scheme(url)} {number}", url) for number, url in enumerate(urls, 1)]
    if settings.alert_command:
        found.append(Target("command", command=_words(settings)))
    return found


def _urls(settings: Settings) -> list[str]:
    found = []
    for word in settings.alert_urls.get_secret_value().split():
        found += _urls_in(Path(word), settings) if word.startswith("/") else [word]
    return found


def _urls_in(path: Path, settings: Settings) -> list[str]:
    """The addresses in a file: one in a line; `#` begins a comment."""
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise ConfigError(f"{settings.where('alert_urls')}: {path} cannot be read: {reason.lower()}") from error
    return [line for line in lines if line and not line.startswith("#")]


def _scheme(url: str) -> str:
    """The word before `://`, if it is one."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and scheme.isalnum() and len(scheme) <= 20 else "url"


def _words(settings: Settings) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(settings.alert_command))
    except ValueError as error:
        raise ConfigError(f"{settings.where('alert_command')}: {str(error).lower()}") from error
