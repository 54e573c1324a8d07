"""The `.env` of a new deployment: written with new secrets where the settings have none."""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from bisnesctl.bots import credentials
from bisnesctl.database import api_keys, postgres
from bisnesctl.errors import ConfigError, Conflict, DatabaseUnavailable
from bisnesctl.host import disk
from bisnesctl.host.absence import absence
from bisnesctl.paths import shipped_folder
from bisnesctl.settings import Settings, load_partly

Report = Callable[[str], None]

#: Secrets that are generated for a new `.env`.
SECRETS: dict[str, Callable[[], str]] = {
    "ENCRYPTION_KEY": lambda: secrets.token_hex(32),
    "OPERATOR_KEY": api_keys.generate,
    "META_APP_SECRET": lambda: secrets.token_hex(16),
    "META_VERIFY_TOKEN": lambda: secrets.token_urlsafe(24),
}


def ensure_env_file(report: Report) -> Settings:
    """The settings. If there are none, an `.env` is written, in a checkout or where BISNES_ENV names it.

    Raises `NoDeployment` elsewhere: a start in a wrong directory would make another deployment.
    """
    settings = load_partly()
    path = settings.env_file
    if path.exists() or settings.problems or settings.encryption_key:
        return settings
    if not os.environ.get("BISNES_ENV") and not is_checkout(path.parent):
        raise absence(settings)
    create_env_file(settings, report)
    return load_partly()


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of this project."""
    return (folder / "bisnesctl" / "__main__.py").is_file() and (folder / "conf" / "env.example").is_file()


def create_env_file(settings: Settings, report: Report) -> None:
    """Writes an `.env` with new secrets. Raises `Conflict` if it exists, `CannotWrite`.

    `settings`: those of the environment. ENCRYPTION_KEY stays empty if it is there, or if the database has credentials,
    which only their own key decrypts.
    """
    names = set(SECRETS)
    if settings.encryption_key:
        names.discard("ENCRYPTION_KEY")
        report("ENCRYPTION_KEY is in the environment and not written")
    elif _has_credentials(settings):
        names.discard("ENCRYPTION_KEY")
        report(
            "[yellow]the database has stored credentials[/]: enter the ENCRYPTION_KEY of the system that stored them "
            f"in {settings.env_file}"
        )
    write_env_file(settings.env_file, names)
    report(f"wrote {settings.env_file} with new secrets")


def _has_credentials(settings: Settings) -> bool:
    """Whether an external database can be reached and has stored credentials."""
    if settings.embedded_postgres:
        return False
    with contextlib.suppress(DatabaseUnavailable, ConfigError), postgres.command_connection(settings) as connection:
        return any(each.used for each in credentials.stored(connection))
    return False


def write_env_file(path: Path, secret_names: Collection[str] = tuple(SECRETS)) -> None:
    """Writes an `.env` with these secrets, new, and mode 0600. Raises `Conflict` if it exists, `CannotWrite`."""
    text = with_secrets((shipped_folder("conf") / "env.example").read_text(), secret_names)
    with disk.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Conflict(f"{path} exists already and is not changed: edit it, or move it first") from error
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
        except OSError:
            path.unlink()  # half a file would count as all settings
            raise


def with_secrets(example: str, names: Collection[str] = tuple(SECRETS)) -> str:
    """The text with a new secret after each of these names of `SECRETS`."""
    for name in names:
        example = re.sub(rf"^{name}=$", f"{name}={SECRETS[name]()}", example, flags=re.MULTILINE)
    return example
