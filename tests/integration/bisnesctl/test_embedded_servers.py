"""Everything that the embedded servers need is created once, completely, and checked afterwards."""

import importlib.util
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bisnesctl import paths
from bisnesctl.errors import ConfigError, Conflict
from bisnesctl.processes import embedded_servers
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def settings(open_folder: Path) -> Settings:
    """An embedded PostgreSQL only, where its user can reach it."""
    return settings_in(open_folder, REDIS_HOST="unused")


def test_a_cluster_is_created_once_and_never_left_incomplete(settings: Settings) -> None:
    data, said = paths.postgres_data(settings.server_home), list[str]()
    half = data.with_name(".postgres.new")
    half.mkdir(parents=True)
    (half / "rubbish").touch()
    embedded_servers.prepare(settings, said.append)
    assert (data / "PG_VERSION").exists()
    assert not half.exists()
    assert data.stat().st_mode & 0o777 == 0o700
    before = data.stat().st_ino, len(said)
    embedded_servers.prepare(settings, said.append)
    assert (data.stat().st_ino, len(said)) == before


def test_postgres_refuses_tcp_connections(settings: Settings) -> None:
    embedded_servers.prepare(settings, lambda _: None)
    rules = (paths.postgres_data(settings.server_home) / "pg_hba.conf").read_text().splitlines()
    over_tcp = [line.split()[-1] for line in rules if line.startswith("host")]
    assert set(over_tcp) == {"reject"}
    assert paths.postgres_sockets(settings.server_home).stat().st_mode & 0o777 == 0o700


def test_data_of_another_version_are_not_touched(settings: Settings) -> None:
    embedded_servers.prepare(settings, lambda _: None)
    (paths.postgres_data(settings.server_home) / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"PostgreSQL 9.*POSTGRES_BIN"):
        embedded_servers.prepare(settings, lambda _: None)


def test_a_folder_that_is_a_link_is_refused(settings: Settings, tmp_path: Path) -> None:
    sockets = paths.postgres_sockets(settings.server_home)
    sockets.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict, match="belongs to"):
        embedded_servers.prepare(settings, lambda _: None)


def test_missing_system_binaries_are_an_error(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, POSTGRES_BIN="/nowhere", REDIS_BIN="/nowhere/redis-server")
    with pytest.raises(ConfigError, match="POSTGRES_BIN"):
        embedded_servers.postgres_bin(settings)
    with pytest.raises(ConfigError, match="REDIS_BIN"):
        embedded_servers.redis_server(settings)


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of a server in a copy that does not exist yet."""
    site = tmp_path / "site"
    for name in ("fakeserver/__init__.py", "fakeserver/bin/serve", "fakeserver.libs/lib.so"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch(mode=0o700 if name.endswith("serve") else 0o600)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(paths, "ROOT_STATE", tmp_path / "state")
    return tmp_path / "state" / "binaries" / "fakeserver-1" / "fakeserver" / "bin" / "serve"


def test_binaries_are_copied_with_the_libraries_beside_them(wanted: Path) -> None:
    said: list[str] = []
    embedded_servers.copy_if_needed("fakeserver", wanted, said.append)
    embedded_servers.copy_if_needed("fakeserver", wanted, said.append)
    assert len(said) == 1
    assert wanted.stat().st_mode & 0o777 == 0o755
    assert (wanted.parents[2] / "fakeserver.libs" / "lib.so").stat().st_mode & 0o777 == 0o644
    assert not [path for path in wanted.parents[2].rglob("*") if path.is_dir() and not path.stat().st_mode & 0o001]


def test_first_starts_at_once_copy_the_binaries_once(wanted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = 4
    all_looked = threading.Barrier(starts)
    look = importlib.util.find_spec

    def look_together(name: str) -> Any:
        all_looked.wait(HANG_SECONDS)  # none of them has found a copy
        return look(name)

    monkeypatch.setattr(importlib.util, "find_spec", look_together)
    said: list[str] = []
    with ThreadPoolExecutor(starts) as pool:
        for each in [
            pool.submit(embedded_servers.copy_if_needed, "fakeserver", wanted, said.append) for _ in range(starts)
        ]:
            each.result()
    assert len(said) == 1
    assert wanted.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in wanted.parents[3].iterdir() if not each.name.startswith(".")] == ["fakeserver-1"]


def test_servers_run_as_another_user_only_under_root() -> None:
    assert (embedded_servers.server_user() is None) == (os.geteuid() != 0)
