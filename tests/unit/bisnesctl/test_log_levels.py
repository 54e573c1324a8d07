"""Levels of logging that an operator sets for a time."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.host import process_times
from bisnesctl.logs import levels
from bisnesctl.logs.levels import LevelWatch


@pytest.fixture
def applied() -> list[str]:
    return []


@pytest.fixture
def watch(tmp_path: Path, applied: list[str]) -> LevelWatch:
    return LevelWatch(tmp_path, "api-0", "info", applied.append)


@pytest.fixture
def usual_levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "services", "bisnesctl", "__main__")]
    before = [each.level for each in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_a_level_applies_until_it_ends(
    tmp_path: Path, watch: LevelWatch, applied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.look()
    assert applied == []
    timed = levels.write(tmp_path, "api-0", "debug", 600)
    watch.look()
    watch.look()
    assert applied[-1] == "debug"
    assert len(applied) == 2  # for the line about it, and then
    monkeypatch.setattr(process_times, "boottime", lambda: timed.until + 1)
    watch.look()
    assert applied[-1] == "info"


def test_a_level_that_is_cleared_ends_at_once(tmp_path: Path, watch: LevelWatch, applied: list[str]) -> None:
    levels.write(tmp_path, "api-0", "error", 600)
    watch.look()
    levels.clear(tmp_path, "api-0")
    levels.clear(tmp_path, "api-0")
    watch.look()
    assert applied[-1] == "info"
    assert levels.read(tmp_path, "api-0") is None


def test_a_level_of_another_instance_an_earlier_start_or_another_boot_does_not_count(
    tmp_path: Path, watch: LevelWatch, applied: list[str]
) -> None:
    levels.write(tmp_path, "api-1", "debug", 600)
    watch.look()
    assert applied == []
    timed = levels.write(tmp_path, "api-0", "debug", 600)
    assert timed.applies(started=timed.since - 1)
    assert not timed.applies(started=timed.since + 1)
    assert not replace(timed, boot="another").applies(started=timed.since - 1)


def test_the_file_is_private(tmp_path: Path) -> None:
    levels.write(tmp_path, "api-0", "debug", 600)
    (path,) = (tmp_path / levels.FOLDER).iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@given(
    st.binary(max_size=100)
    | st.sampled_from([b"{}", b"[]", b'{"level": "debug", "since": "x", "until": 1, "boot": ""}'])
)
def test_a_damaged_file_sets_no_level(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / levels.FOLDER).mkdir()
    (folder / levels.FOLDER / "api-0.json").write_bytes(content)
    assert levels.read(folder, "api-0") is None


@pytest.mark.usefixtures("usual_levels")
def test_libraries_never_log_at_debug() -> None:
    levels.apply("debug")
    assert logging.getLogger("services.outbox.delivery").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("selenium.webdriver").isEnabledFor(logging.DEBUG)
    levels.apply("error")
    assert not logging.getLogger("selenium.webdriver").isEnabledFor(logging.WARNING)
