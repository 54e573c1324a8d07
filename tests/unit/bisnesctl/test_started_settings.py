"""Settings that changed since a process started are named, if the process reads them."""

import json
import os
from pathlib import Path

import pytest

from bisnesctl import release
from bisnesctl.processes import started_settings
from bisnesctl.processes.started_settings import _READERS
from bisnesctl.processes.topology import PROGRAMS, Instance, expand
from bisnesctl.release import Release
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in


def instance(settings: Settings, name: str) -> Instance:
    return next(each for each in expand(settings) if each.name == name)


def changed(folder: Path, name: str, **variables: str) -> list[str]:
    """The names for an instance that started with the default settings and now has these."""
    before, now = settings_in(folder), settings_in(folder, **variables)
    started_settings.record(before, name, os.getpid())
    return started_settings.changed(now, instance(now, name), os.getpid())


def test_nothing_changed(tmp_path: Path) -> None:
    assert changed(tmp_path, "api-0") == []


def test_a_changed_setting_is_named_where_it_is_read(tmp_path: Path) -> None:
    assert changed(tmp_path, "api-0", API_PORT="4000", META_WINDOW="3", LOG_LEVEL="debug") == ["API_PORT", "LOG_LEVEL"]
    assert changed(tmp_path, "meta-worker-1", API_PORT="4000", META_WINDOW="3") == ["META_WINDOW"]


def test_a_changed_secret_is_named_and_not_stored(tmp_path: Path) -> None:
    before = settings_in(tmp_path, META_APP_SECRET="hush-hush")
    started_settings.record(before, "meta", os.getpid())
    [file] = (before.run_dir / started_settings.FOLDER).iterdir()
    assert "hush-hush" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    now = settings_in(tmp_path, META_APP_SECRET="other")
    assert started_settings.changed(now, instance(now, "meta"), os.getpid()) == ["META_APP_SECRET"]


def test_the_settings_of_a_predecessor_do_not_count(tmp_path: Path) -> None:
    now = settings_in(tmp_path, LOG_LEVEL="debug")
    started_settings.record(settings_in(tmp_path), "meta", os.getppid())
    assert started_settings.changed(now, instance(now, "meta"), os.getpid()) == []
    started_settings.record(now, "meta", os.getpid())
    assert started_settings.changed(now, instance(now, "meta"), os.getpid()) == []


def test_a_new_worker_of_the_same_server_changes_nothing(tmp_path: Path) -> None:
    now = settings_in(tmp_path, META_PORT="4000")
    started_settings.record(settings_in(tmp_path), "meta", os.getpid())
    started_settings.record(now, "meta", os.getpid())
    assert started_settings.changed(now, instance(now, "meta"), os.getpid()) == ["META_PORT"]


def test_the_readers_are_programs_and_the_names_are_settings() -> None:
    assert set(_READERS) <= set(Settings.model_fields)
    assert set().union(*_READERS.values()) <= {row.name for row in PROGRAMS}


def test_a_change_has_both_values_unless_it_is_a_secret(tmp_path: Path) -> None:
    before = settings_in(tmp_path, META_ATTEMPTS="3", META_APP_SECRET="hush-hush")
    started_settings.record(before, "meta-worker-1", os.getpid())
    now = settings_in(tmp_path, META_ATTEMPTS="5", META_APP_SECRET="other")
    found = started_settings.changes(now, instance(now, "meta-worker-1"), os.getpid())
    assert [(each.name, each.running, each.configured) for each in found] == [
        ("META_APP_SECRET", None, None),
        ("META_ATTEMPTS", "3", "5"),
    ]


def test_a_record_shows_no_secret_whatever_its_name_or_value(tmp_path: Path) -> None:
    secret = "s3cr3t-" + "0" * 57
    secrets = (name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))
    own = {name.upper(): secret for name in secrets}
    own |= {"ENCRYPTION_KEY": "ab" * 32, "ENCRYPTION_KEY_PREVIOUS": "cd" * 32}
    own |= {"DATABASE_URL": f"postgresql://u:{secret}@h/d", "REDIS_URL": f"redis://:{secret}@h"}
    own |= {"CHROME_ARGS": f"--proxy-server=http://u:{secret}@h", "HEALTH_PING_URL": f"https://h/{secret}"}
    started_settings.record(settings_in(tmp_path, **own), "meta", os.getpid())
    [file] = (settings_in(tmp_path).run_dir / started_settings.FOLDER).iterdir()
    assert secret not in file.read_text()
    assert "abab" not in file.read_text()
    assert "cdcd" not in file.read_text()


def test_the_release_of_a_process_is_that_of_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setattr(release, "installed", lambda: Release("0.9", "abc"))
    started_settings.record(settings, "meta", os.getpid())
    monkeypatch.undo()
    assert started_settings.running_release(settings, "meta", os.getpid()) == Release("0.9", "abc")
    assert started_settings.running_release(settings, "api-0", os.getpid()) is None


def test_the_record_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, LOG_LEVEL="debug")
    file = settings.run_dir / started_settings.FOLDER / "meta.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pid": os.getpid(), "key": "00", "digests": {"log_level": "other"}}))
    [found] = started_settings.changes(settings, instance(settings, "meta"), os.getpid())
    assert (found.name, found.running, found.configured) == ("LOG_LEVEL", None, "debug")
    assert started_settings.running_release(settings, "meta", os.getpid()) is None
