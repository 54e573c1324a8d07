"""Reads the values of settings from the environment and from `.env`; the environment takes precedence.

A variable that is empty means the default. Names count in capitals and in small letters. Nothing is validated here.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bisnesctl import env_file, misspellings
from bisnesctl.errors import ConfigError

#: The place of a value that `.env` does not have.
ENVIRONMENT = "the environment"
#: Variables of ours that are no settings.
VARIABLES = ("BISNES_ENV", "BISNES_API_KEY", "BISNES_PROCESS", "BISNES_INSTANCE")
#: All names that start like this are ours.
OWN_PREFIX = "BISNES_"


@dataclass(frozen=True)
class KnownSetting:
    """The properties of a setting that the reader needs."""

    default: str
    #: Whether its value may be any text, so that `#` after a blank may belong to it.
    is_free_text: bool


@dataclass
class SettingValues:
    """Values by the name of their setting, as they were written."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    #: The numbers of the lines in the file, of values that the environment does not replace.
    line_numbers: dict[str, int] = field(default_factory=dict)
    #: Setting, or line of the file → why it is refused.
    problems: dict[str, str] = field(default_factory=dict)
    #: Remarks for the operator, such as a misspelt name.
    notes: list[str] = field(default_factory=list)


def read(path: Path, settings: Mapping[str, KnownSetting]) -> SettingValues:
    """The values in a file, which need not exist, and in the environment. Raises `ConfigError` if it is unreadable.

    `settings`: by name, in small letters.
    """
    found, names = SettingValues(path), (*(each.upper() for each in settings), *VARIABLES)
    _read_file(found, settings, names)
    _read_environment(found, settings, names)
    return found


def _read_file(found: SettingValues, settings: Mapping[str, KnownSetting], names: tuple[str, ...]) -> None:
    try:
        text = found.path.read_text(encoding="utf-8") if found.path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{found.path} cannot be read: {error}") from error
    content = env_file.parse(
        text, lambda name: name.lower() in settings, lambda name: settings[name.lower()].is_free_text
    )
    for name, line in _last_lines(found, content.lines, settings).items():
        found.origins[name], found.line_numbers[name] = str(found.path), line.number
        if line.problem:
            found.problems[name] = f"{line.name} in {found.path}, line {line.number}: it {line.problem}"
        elif line.value:
            found.values[name] = line.value
    for number in content.unreadable:
        found.problems[f"line {number}"] = f"{found.path}, line {number}: it is not NAME=value; a comment begins with #"
    for name, number in content.others.items():
        _check_name(found, name, f"{name} in {found.path}, line {number},", names)


def _last_lines(
    found: SettingValues, lines: Iterable[env_file.Line], settings: Mapping[str, KnownSetting]
) -> dict[str, env_file.Line]:
    """The line that counts for each setting, with a note if a value is lost that is not the default."""
    last: dict[str, env_file.Line] = {}
    for line in lines:
        name = line.name.lower()
        earlier = last.get(name)
        if earlier is not None and earlier.value not in ("", line.value, settings[name].default):
            found.notes.append(
                f"{line.name} is set twice in {found.path}: line {line.number} counts, line {earlier.number} does not"
            )
        last[name] = line
    return last


def _read_environment(found: SettingValues, settings: Mapping[str, KnownSetting], names: tuple[str, ...]) -> None:
    for variable, value in os.environ.items():
        name = variable.lower()
        if name not in settings:
            _check_name(found, variable, f"{variable} in {ENVIRONMENT}", names)
        elif value:
            found.values[name], found.origins[name] = value, ENVIRONMENT
            found.problems.pop(name, None)
            found.line_numbers.pop(name, None)


def _check_name(found: SettingValues, name: str, where: str, names: tuple[str, ...]) -> None:
    if name.upper() in VARIABLES:
        return
    meant = misspellings.nearest(name, names)
    if meant is not None:
        found.notes.append(f"{where} is not a setting: did you mean {meant}?")
    elif name.upper().startswith(OWN_PREFIX):
        found.notes.append(f"{where} is not a setting: `bisnesctl help settings` lists them")
