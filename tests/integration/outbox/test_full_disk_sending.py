"""A worker on a disk that is full or read-only: what it cannot mark stays, and leaves once when it can."""

import os

import pytest

from services.outbox.journal import Journal, marked, unowned
from services.outbox.journal import path_of as journal_path
from tests.support.outbox import entry
from tests.support.outbox_worker import Stage
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("services.outbox.journal.RETRY_SECONDS", 0.1)


def test_the_same_holds_in_a_user_namespace():
    again_in_a_namespace(__file__, "journal")


@pytest.fixture
def small(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=2) as found:
        yield found


@pytest.fixture
def stage(database, small, monkeypatch):
    stage = Stage(database, small.folder, monkeypatch)
    yield stage
    stage.close()


@mounts
def test_a_journal_that_was_begun_is_written_on_a_full_disk(small):
    path = small.folder / "w.journal"
    own = Journal(path, 4000)
    own.begin("run")
    small.fill()
    for slot in range(4000):
        own.mark(slot, slot + 1)
    own.clear(0)
    assert marked(path, "run") == set(range(2, 4001))
    assert own.trouble is None


@mounts
def test_a_journal_of_an_earlier_run_is_begun_again_on_a_full_disk(small):
    path = small.folder / "w.journal"
    first = Journal(path, 100)
    first.begin("first")
    first.mark(3, 7)
    first.close()
    small.fill()
    again = Journal(path, 100)
    assert marked(path, "first") == {7}
    again.begin("again")
    again.mark(0, 8)
    assert marked(path, "again") == {8}


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_journal_that_cannot_be_made_is_made_later(small, how):
    small.fill() if how == "full" else small.read_only()
    own = Journal(small.folder / "journal" / "w.journal", 4000)
    with pytest.raises(OSError, match="space" if how == "full" else "ead-only"):
        own.begin("run")
    assert "cannot be written" in str(own.trouble)
    small.free() if how == "full" else small.writable()
    own.begin("run")
    own.mark(0, 5)
    assert own.trouble is None


@mounts
def test_the_journal_of_a_neighbour_is_looked_at_on_a_read_only_disk(small):
    path = small.folder / "w.journal"
    own = Journal(path, 4)
    own.begin("run")
    small.read_only()
    with unowned(path) as dead:
        assert not dead
    own.close()
    with unowned(path) as dead:
        assert dead


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_worker_that_starts_on_such_a_disk_waits_and_then_sends(stage, small, how):
    stage.settings.journal_dir.mkdir(parents=True)
    small.fill() if how == "full" else small.read_only()
    stage.accept(entry(stage.bot()))
    told = []
    sender = stage.sender_that_waits(told.append)
    stage.wait_for(lambda: told)
    assert "cannot be written" in told[0]
    assert stage.provider.received == []
    small.free() if how == "full" else small.writable()
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    assert sender.trouble is None


@mounts
def test_a_message_that_cannot_be_marked_does_not_leave(stage, monkeypatch):
    """The disk fails in the middle of sending: simulated at the lowest call, since no real disk fails on demand."""
    sender, bot = stage.sender(), stage.bot()
    stage.accept(entry(bot, "60111111111"))
    stage.wait_for(lambda: stage.statuses() == {"sent": 1})
    pwrite = os.pwrite

    def fails(file, content, at):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fails)
    stage.accept(*(entry(bot, f"6022222222{n}", f"text {n}") for n in range(5)))
    sender.delivery.wake()
    stage.wait_for(lambda: sender.trouble)
    stage.wait_for(lambda: sender.delivery.in_hand == 0)
    assert stage.statuses() == {"sent": 1, "queued": 5}
    assert len(stage.provider.received) == 1
    monkeypatch.setattr(os, "pwrite", pwrite)
    stage.wait_for(lambda: stage.statuses() == {"sent": 6})
    assert sorted(text for _, text in stage.provider.received[1:]) == [f"text {n}" for n in range(5)]
    path = journal_path(stage.settings.journal_dir, "meta-worker-1")
    stage.wait_for(lambda: marked(path, "run1") == set())
