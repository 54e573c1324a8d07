"""Paths of the embedded servers' files."""

import os
from pathlib import Path

import pytest

from bisnesctl import paths


def test_a_home_that_everybody_may_enter_is_reachable(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    assert not paths.reachable(inner)
    assert not paths.reachable(inner / "not" / "there")


def test_an_ordinary_user_keeps_everything_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert paths.server_home(tmp_path) == tmp_path


def test_root_puts_the_servers_of_an_unreachable_home_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tmp_path.chmod(0o700)
    assert paths.server_home(tmp_path / "var").parent == paths.ROOT_STATE
    assert paths.server_home(tmp_path / "var") != paths.server_home(tmp_path / "other")


def test_existing_data_stay_when_folders_above_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = tmp_path / "var"
    (home / "postgres").mkdir(parents=True)
    tmp_path.chmod(0o700)
    assert paths.server_home(home) == home


@pytest.mark.parametrize("name", ["d" * 100, "a,b"])
def test_sockets_lie_in_folders_with_short_paths(name: str) -> None:
    home = Path("/srv") / name
    for path in (paths.postgres_sockets(home), paths.redis_socket(home), paths.supervisor_socket(home / "run")):
        assert str(path).startswith("/tmp/bisnesctl-")
        assert len(str(path)) < 100
    assert paths.redis_socket(Path("/srv/b")) == Path("/srv/b/sockets/redis/redis.sock")
