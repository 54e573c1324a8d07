"""Checks of the installation: settings, secrets, Python and its packages."""

import os
import re
import sys
from importlib import metadata
from pathlib import Path

from bisnesctl.doctor.finding import Finding, error, ok, skipped, warning
from bisnesctl.doctor.subject import Subject
from bisnesctl.lifecycle import preflight

#: Modes of files and folders that others must not have: for files, and for folders that others may enter.
_OTHERS = 0o077
#: A requirement of `setup.cfg`: its name, and its range.
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*])?\s*(?P<range>[<>=0-9.,\s]*)(?P<marker>;.*)?")
#: The oldest Python.
OLDEST_PYTHON = (3, 11)
#: Named packages in a finding, at most.
MAX_NAMED = 5


def settings_valid(subject: Subject) -> Finding:
    """Every value of `.env` and of the environment is accepted."""
    if subject.refused:
        return error(
            "; ".join(subject.refused.values()), "every value is accepted", f"edit {subject.settings.env_file}"
        )
    if subject.settings.notes:
        return warning("; ".join(subject.settings.notes), "every name is known", f"edit {subject.settings.env_file}")
    if not subject.settings.env_file.exists() and not subject.settings.encryption_key:
        return error(f"there is no {subject.settings.env_file}", "an .env with secrets", "bisnesctl init")
    return ok(f"{subject.settings.env_file}, all values accepted")


def encryption_key(subject: Subject) -> Finding:
    """ENCRYPTION_KEY is set."""
    preflight.check_secrets(subject.settings)
    return ok("ENCRYPTION_KEY is set")


def env_private(subject: Subject) -> Finding:
    """The file of the settings belongs to this user, and nobody else may read it."""
    file = subject.settings.env_file
    if not file.exists():
        if subject.settings.encryption_key:
            return ok("all settings are in the environment")
        return skipped(f"there is no {file}; setup.settings says what to type")
    return _private(file, "mode 0600, because it has the secrets")


def home_private(subject: Subject) -> Finding:
    """Folders with state and secrets belong to this user, and nobody else may read or change them."""
    settings = subject.settings
    if not settings.home.exists():
        return ok(f"{settings.home} is made by the first start")
    if settings.home.stat().st_mode & 0o022:
        return error(f"others may write to {settings.home}", "only its owner may", f"chmod go-w {settings.home}")
    for folder in (settings.run_dir, settings.log_dir, settings.profile_dir, settings.journal_dir):
        if folder.exists():
            found = _private(folder, "mode 0700, because it has secrets or messages")
            if found.fix:
                return found
    return ok(f"{settings.home} is private")


def _private(path: Path, wanted: str) -> Finding:
    status = path.stat()
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        return error(f"{path} belongs to another user", "it belongs to the user who starts", f"sudo chown $USER {path}")
    if status.st_mode & _OTHERS:
        mode = "0700" if path.is_dir() else "0600"
        return error(f"{path} has mode {status.st_mode & 0o777:04o}", wanted, f"chmod {mode} {path}")
    return ok(f"{path} is private")


def python_version(_: Subject) -> Finding:
    """Python is 3.11 or newer."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return error(f"Python {found}", "3.11 or newer", "scripts/provision")
    return ok(f"{found} ({sys.executable})")


def packages(_: Subject) -> Finding:
    """All Python packages are installed in the versions that were tested."""
    wrong = [text for line in metadata.requires("bisnesctl") or [] if (text := _problem(line))]
    if wrong:
        more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        found = f"{'; '.join(wrong[:MAX_NAMED])}{more}"
        return error(found, "the versions of requirements/run.txt", "scripts/provision")
    preflight.check_installed()
    return ok("all packages are in their ranges")


def _problem(line: str) -> str:
    """The problem of a required package; empty if it fits."""
    found = _REQUIREMENT.match(line)
    if found is None or "extra" in (found["marker"] or ""):
        return ""
    try:
        version = metadata.version(found["name"])
    except metadata.PackageNotFoundError:
        return f"{found['name']} is missing"
    for bound in filter(None, (each.strip() for each in found["range"].split(","))):
        limit = _numbers(bound.lstrip("<>="))
        if (bound.startswith(">=") and _numbers(version) < limit) or (
            bound.startswith("<") and not bound.startswith("<=") and _numbers(version) >= limit
        ):
            return f"{found['name']} {version} is not {bound}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version.partition("+")[0])[:4])
