"""The settings with which an instance started, to name those that have changed since.

Each process records them at its start in `run/settings/<instance>.json`: its pid, and a digest of each value under a
random key, so that the file shows no secret.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bisnesctl.host import disk, process_environment, process_stat
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings

#: The folder of the files, below `run_dir`.
FOLDER = "settings"
_DIGEST_BYTES = 16

#: Settings that only these programs read; an empty set: no running process. All others concern every program that
#: records its settings.
_READERS: dict[str, frozenset[str]] = {
    name: frozenset(programs.split())
    for names, programs in (
        ("api_port database_pool_api_max", "api"),
        ("api_host", "api legacy"),
        ("port", "legacy"),
        ("meta_host meta_port", "meta"),
        ("wwebjs_port database_pool_wwebjs_max", "wwebjs"),
        ("database_pool_meta_max", "meta meta-worker"),
        ("max_sessions wwebjs_memory_mb", "wwebjs legacy"),
        ("session_memory_mb", "wwebjs-session guard"),
        ("wwebjs_takeovers wwebjs_attempts wwebjs_backoff_ms wwebjs_max_messages_per_second", "wwebjs-session"),
        ("wa_url wa_js_path chrome_path chrome_args chromedriver_path", "wwebjs-session"),
        (
            "meta_window meta_attempts meta_backoff_ms meta_outage_hours meta_max_messages_per_second",
            "meta-worker legacy",
        ),
        ("bot_check_minutes", "meta-worker legacy"),
        ("disk_critical_mb", "guard"),
        ("api_instances meta_instances enable_meta enable_wwebjs disk_warning_mb operator_key", ""),
        ("api_health_endpoint meta_health_endpoint wwebjs_health_endpoint", ""),
        ("postgres_bin redis_bin sandbox bisnes_home", ""),
    )
    for name in names.split()
}


@dataclass(frozen=True)
class _Record:
    pid: int
    key: str
    digests: dict[str, str]


def record(settings: Settings, instance: str, pid: int) -> None:
    """Records the settings of this process. A full disk must not prevent its start.

    `pid`: the supervised process. If it recorded its settings already, they stay: a new worker of the same gunicorn
    listens where the first one did.
    """
    file = _file(settings, instance)
    found = _read(file)
    if found is not None and found.pid == pid:
        return
    key = secrets.token_hex(16)
    content = {"pid": pid, "key": key, "digests": _digests(settings, key)}
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.replace(file, json.dumps(content).encode())


def changed(settings: Settings, instance: Instance, pid: int) -> list[str]:
    """The settings, in capitals, that have changed since the process of this instance started and that it reads.

    Empty if they are not known. `pid`: the process that supervisord started.
    """
    found = _read(_file(settings, instance.name))
    if found is None or pid not in process_stat.ancestors(found.pid):
        return []
    now = _digests(settings, found.key)
    names = sorted(name for name in now if found.digests.get(name, now[name]) != now[name])
    return [name.upper() for name in names if instance.program.name in _READERS.get(name, {instance.program.name})]


def inherited(supervisor_pid: int | None) -> set[str]:
    """The settings, in capitals, in the environment of supervisord, which its processes inherit."""
    if supervisor_pid is None:
        return set()
    names = {name.upper() for name in process_environment.read(supervisor_pid)}
    return names & {name.upper() for name in Settings.model_fields}


def _file(settings: Settings, instance: str) -> Path:
    return settings.run_dir / FOLDER / f"{instance}.json"


def _read(file: Path) -> _Record | None:
    try:
        found = json.loads(file.read_text())
        return _Record(int(found["pid"]), str(found["key"]), dict(found["digests"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digests(settings: Settings, key: str) -> Mapping[str, str]:
    return {name: _digest(getattr(settings, name), key) for name in type(settings).model_fields}


def _digest(given: object, key: str) -> str:
    text = given.get_secret_value() if isinstance(given, SecretStr) else str(given)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=key.encode()).hexdigest()
