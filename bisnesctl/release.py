"""The release of this code: its version, its git revision if it is known, and its number if it was installed beside
others. Imports little; every process uses it.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import bisnesctl

#: Characters of a revision that are shown.
REVISION_LENGTH = 10
_REVISION = re.compile(r"[0-9a-f]{40,64}")
#: The file that describes an installed release, in its virtual environment.
RECORD = "release.json"


@dataclass(frozen=True)
class Release:
    """One release."""

    version: str
    #: The beginning of the git revision; empty if it is not known.
    revision: str = ""
    #: Its number beside others; 0 if it runs in the folder of a checkout.
    number: int = 0

    def __str__(self) -> str:
        if self.number:
            return f"{self.number} ({', '.join(filter(None, (self.version, self.revision)))})"
        return f"{self.version} ({self.revision})" if self.revision else self.version


def installed() -> Release:
    """The release of the files on disk. A process that records it at its start records what it runs."""
    try:
        found = json.loads((Path(sys.prefix) / RECORD).read_text())
        return Release(bisnesctl.__version__, str(found["revision"]), int(found["number"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Release(bisnesctl.__version__, revision_of(Path(bisnesctl.__file__).parent.parent)[:REVISION_LENGTH])


def revision_of(checkout: Path) -> str:
    """The revision of a checkout, read from git's files; empty if it is no checkout."""
    try:
        folder = _git_folder(checkout / ".git")
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return _checked(head)
        shared = folder / "commondir"
        common = (folder / shared.read_text().strip()) if shared.exists() else folder
        return _resolved(head.removeprefix("ref: "), folder, common)
    except (OSError, UnicodeDecodeError):
        return ""


def _git_folder(path: Path) -> Path:
    """The folder that `.git` is, or names."""
    if path.is_dir():
        return path
    return path.parent / path.read_text().strip().removeprefix("gitdir: ")


def _resolved(ref: str, folder: Path, common: Path) -> str:
    for place in (folder, common):
        if (place / ref).is_file():
            return _checked((place / ref).read_text().strip())
    for line in (common / "packed-refs").read_text().splitlines():
        revision, _, name = line.partition(" ")
        if name == ref:
            return _checked(revision)
    return ""


def _checked(revision: str) -> str:
    return revision if _REVISION.fullmatch(revision) else ""
