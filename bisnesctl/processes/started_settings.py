"""The settings and the release with which an instance started, to name what has changed since.

Each process records them at its start in `run/settings/<instance>.json`: its pid, its release, the values, and of each
secret a digest under a random key, so that the file shows no secret.
"""

import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from bisnesctl import release
from bisnesctl.host import disk, process_environment, process_stat
from bisnesctl.processes.topology import Instance
from bisnesctl.release import Release
from bisnesctl.setting_fields import SecretStr
from bisnesctl.settings import Settings

#: The folder of the files, below `run_dir`.
FOLDER = "settings"
#: Records that are kept to be read once only, at most.
MAX_KEPT = 500
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
        ("dashboard_host dashboard_port", "dashboard"),
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
        ("enable_dashboard", ""),
        ("api_health_endpoint meta_health_endpoint wwebjs_health_endpoint", ""),
        ("postgres_bin redis_bin sandbox bisnes_home encryption_key_previous", ""),
        ("alert_urls alert_command alert_check_interval alert_resolve_seconds alert_repeat_hours", ""),
        ("health_ping_url heal_restarts_per_hour start_timeout_seconds", ""),
        ("encryption_key", "api meta meta-worker events legacy"),
        ("quota_meta_numbers quota_web_numbers quota_requests_per_second quota_waiting_messages", "api legacy"),
        ("quota_idempotency_keys quota_webhook_calls_per_minute wrong_keys_per_minute", "api legacy"),
        ("quota_web_sessions", "wwebjs legacy"),
        ("quota_media_mb", "api meta-worker wwebjs-session legacy"),
    )
    for name in names.split()
}


#: Parts of the names of settings whose values are secrets, or may have one inside, such as a URL with a password.
_SECRET_NAMES = re.compile(r"secret|token|password|_key(?!s)|ping_url|alert_url")
_CREDENTIALS_IN_URL = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True)
class SettingChange:
    """A setting that has another value now than at the start of a process."""

    #: In capitals.
    name: str
    #: The value of the process; None if it is a secret, or was not recorded.
    running: str | None
    #: The value now; None if it is a secret.
    configured: str | None
    #: The place of the value of now: `the environment`, or the path of `.env`.
    origin: str


@dataclass(frozen=True)
class _Record:
    pid: int
    key: str
    digests: dict[str, str]
    values: dict[str, str]
    release: Release | None


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
    content = {
        "pid": pid,
        "key": key,
        "digests": _digests(settings, key),
        "values": {
            name: text for name in type(settings).model_fields if (text := public_value(settings, name)) is not None
        },
        "release": asdict(release.installed()),
    }
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.replace(file, json.dumps(content).encode())


def changed(settings: Settings, instance: Instance, pid: int) -> list[str]:
    """The settings, in capitals, that have changed since the process of this instance started and that it reads.

    Empty if they are not known. `pid`: the process that supervisord started.
    """
    return [each.name for each in changes(settings, instance, pid)]


def changes(settings: Settings, instance: Instance, pid: int) -> list[SettingChange]:
    """The same with the values."""
    found = _record_of(settings, instance.name, pid)
    if found is None:
        return []
    now = _digests(settings, found.key)
    names = sorted(name for name in now if found.digests.get(name, now[name]) != now[name])
    return [
        SettingChange(name.upper(), found.values.get(name), public_value(settings, name), settings.origin(name))
        for name in names
        if instance.program.name in _READERS.get(name, {instance.program.name})
    ]


def running_release(settings: Settings, instance: str, pid: int) -> Release | None:
    """The release of an instance's process; None if it is not known."""
    found = _record_of(settings, instance, pid)
    return None if found is None else found.release


def public_value(settings: Settings, name: str) -> str | None:
    """A setting's value as it may be shown; None if it is a secret."""
    field = type(settings).model_fields[name]
    text = setting_text(settings, name)
    if "SecretStr" in str(field.annotation) or _SECRET_NAMES.search(name) or _CREDENTIALS_IN_URL.search(text):
        return None
    return text


def setting_text(settings: Settings, name: str) -> str:
    """A setting's value as text, secrets too."""
    given = getattr(settings, name)
    return given.get_secret_value() if isinstance(given, SecretStr) else str(given)


def _record_of(settings: Settings, instance: str, pid: int) -> _Record | None:
    """The record of this very process, not of its predecessor."""
    found = _read(_file(settings, instance))
    return found if found is not None and pid in process_stat.ancestors(found.pid) else None


def inherited(supervisor_pid: int | None) -> set[str]:
    """The settings, in capitals, in the environment of supervisord, which its processes inherit."""
    if supervisor_pid is None:
        return set()
    names = {name.upper() for name in process_environment.read(supervisor_pid)}
    return names & {name.upper() for name in Settings.model_fields}


def _file(settings: Settings, instance: str) -> Path:
    return settings.run_dir / FOLDER / f"{instance}.json"


def _read(file: Path) -> _Record | None:
    """The record in a file, which is replaced as a whole; one that was read before is not read again."""
    try:
        state = file.stat()
        return _parse(file, state.st_ino, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(MAX_KEPT)
def _parse(file: Path, *_: int) -> _Record:
    found = json.loads(file.read_text())
    values, own = found.get("values", {}), found.get("release")  # an earlier release does not write them
    started = Release(str(own["version"]), str(own["revision"]), int(own.get("number", 0))) if own else None
    return _Record(int(found["pid"]), str(found["key"]), dict(found["digests"]), dict(values), started)


def _digests(settings: Settings, key: str) -> Mapping[str, str]:
    return {name: _digest(setting_text(settings, name), key) for name in type(settings).model_fields}


def _digest(text: str, key: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=key.encode()).hexdigest()
