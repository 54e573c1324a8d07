"""Replaces ENCRYPTION_KEY as steps. Each may be repeated, so an interrupted rotation is continued by the same command.

Both keys are in `.env` until everything is encrypted with the new one, so every process reads old and new rows.
"""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from bisnesctl.bots import credentials, webhook_secrets
from bisnesctl.database import postgres
from bisnesctl.errors import ConfigError
from bisnesctl.host import disk
from bisnesctl.lifecycle.restart import restart
from bisnesctl.processes.deployment import Condition, Deployment, open_deployment
from bisnesctl.settings import Settings, load

#: Programs that decrypt credentials.
READERS = ("api", "meta", "meta-worker", "events", "legacy")
#: Bytes of a new key.
NEW_KEY_BYTES = 32

Report = Callable[[str], None]


def rotate(deployment: Deployment, report: Report) -> None:
    """Replaces the key. Raises `ConfigError` if that cannot begin; a key is never shown."""
    with deployment.lock("keys rotate-encryption"):
        settings = _begin(deployment.settings, report)
        deployment = open_deployment(settings.copy_with(sandbox=deployment.settings.sandbox))
        _restart_readers(deployment, report)
        with postgres.command_connection(settings) as connection:
            count, lost = credentials.replace_key(connection, settings)
        report(f"{count} secrets were encrypted with the new key")
        for each in lost[: credentials.MAX_NAMED]:
            report(
                f"[yellow]no key decrypts {each.name}[/] ({each.table}.{each.column}, id {each.id}): it stays as it is"
            )
        _write_env(settings.env_file, {"ENCRYPTION_KEY_PREVIOUS": ""})


def _begin(settings: Settings, report: Report) -> Settings:
    """The settings with both keys; a new key is made unless a rotation is under way."""
    for name in ("ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS"):
        if name in {each.upper() for each in os.environ}:
            raise ConfigError(
                f"{name} comes from the environment, so it cannot be changed here: put it into {settings.env_file}"
            )
    if settings.encryption_key_previous:
        report("continuing a rotation that was interrupted")
        return settings
    with postgres.command_connection(settings) as connection:
        credentials.check(connection, settings, report)
        webhook_secrets.keep_derived(connection, settings)
    keys = {
        "ENCRYPTION_KEY_PREVIOUS": settings.encryption_key.get_secret_value(),
        "ENCRYPTION_KEY": secrets.token_hex(NEW_KEY_BYTES),
    }
    _write_env(settings.env_file, keys)
    report(f"wrote a new ENCRYPTION_KEY to {settings.env_file}; the former one stays until the end")
    return load(settings.env_file)


def _restart_readers(deployment: Deployment, report: Report) -> None:
    """Every running process must know both keys before a row has the new one."""
    if deployment.condition() is not Condition.RUNNING:
        return
    running = [each for each in deployment.active() if each.program.name in READERS]
    if running:
        restart(deployment, running, "keys rotate-encryption", report)


def _write_env(path: Path, values: dict[str, str]) -> None:
    """Changes these variables in `.env`, whole or not at all. Raises `CannotWrite`."""
    with disk.writing(path):
        text = path.read_text()
        for name, value in values.items():
            line, found = f"{name}={value}", re.compile(rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*=.*$", re.MULTILINE)
            text = found.sub(line, text) if found.search(text) else f"{text.rstrip(chr(10))}\n{line}\n"
        new = path.with_name(f"{path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
