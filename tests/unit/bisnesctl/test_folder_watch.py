"""A change in a folder ends a wait."""

import threading
import time
from pathlib import Path

import pytest

from bisnesctl.host.folder_watch import FolderWatch
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def watch(tmp_path: Path) -> FolderWatch:
    found = FolderWatch(tmp_path / "watched")
    (tmp_path / "watched").mkdir()
    found.begin()
    return found


def wait(watch: FolderWatch) -> bool:
    """Whether something changed before the time was up."""
    began = time.monotonic()
    watch.wait(HANG_SECONDS)
    return time.monotonic() - began < HANG_SECONDS


@pytest.mark.parametrize("change", ["write", "replace", "remove"])
def test_a_changed_file_ends_the_wait(watch: FolderWatch, tmp_path: Path, change: str) -> None:
    file, other = tmp_path / "watched" / "file", tmp_path / "other"
    if change == "remove":
        file.touch()
        watch.wait(0)
    other.touch()
    actions = {"write": lambda: file.write_text("x"), "replace": lambda: other.replace(file), "remove": file.unlink}
    threading.Timer(0.05, actions[change]).start()
    assert wait(watch)


def test_a_change_before_the_wait_counts(watch: FolderWatch, tmp_path: Path) -> None:
    (tmp_path / "watched" / "file").write_text("x")
    assert wait(watch)


def test_a_folder_that_was_made_again_is_watched_again(watch: FolderWatch, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        watch.begin()
    folder.mkdir()
    watch.begin()
    watch.wait(0)
    (folder / "file").write_text("x")
    assert wait(watch)
