"""Writes a new `.env` from the documented example, with secrets of its own."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from bisnesctl.database import api_keys
from bisnesctl.errors import Conflict
from bisnesctl.host import disk
from bisnesctl.paths import shipped_folder

#: What `init` makes up, and how.
SECRETS: dict[str, Callable[[], str]] = {
    "ENCRYPTION_KEY": lambda: secrets.token_hex(32),
    "OPERATOR_KEY": api_keys.generate,
    "META_APP_SECRET": lambda: secrets.token_hex(16),
    "META_VERIFY_TOKEN": lambda: secrets.token_urlsafe(24),
}


def write(path: Path) -> None:
    """Writes `path` with mode 0600. Raises `Conflict` where it exists or cannot be made."""
    text = fill((shipped_folder("conf") / "env.example").read_text())
    with disk.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Conflict(f"{path} exists already, and is left as it is: edit it, or move it away first") from error
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
        except OSError:
            path.unlink()  # half of one would be taken for all of it
            raise


def fill(example: str) -> str:
    """The example with a fresh secret behind every name in `SECRETS`."""
    for name, make in SECRETS.items():
        example = re.sub(rf"^{name}=$", f"{name}={make()}", example, flags=re.MULTILINE)
    return example
