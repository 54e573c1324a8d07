"""The group-commit writer: batches, answers and deadlines, even if writing fails or hangs."""

import asyncio
import threading
import time
from concurrent.futures import wait as wait_for

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.database.connection import DatabaseUnavailable
from services.database.group_commit import GroupCommit
from tests.support.waiting import HANG_SECONDS


class Store:
    """A writer: each batch does as the next entry of `script` says."""

    def __init__(self, script=()):
        self.script, self.stored, self.batches = list(script), set(), []
        self.writing, self.released = threading.Event(), threading.Event()

    def write(self, batch):
        self.batches.append(list(batch.items))
        how = self.script.pop(0) if self.script else "fine"
        if how == "held":
            self.writing.set()
            assert self.released.wait(HANG_SECONDS)
        if how == "slow":
            time.sleep(0.15)
        if how == "refused":
            raise DatabaseUnavailable("refused")
        if how == "fault":
            raise ValueError("a bad batch")
        batch.check()
        if how == "late":  # the commit itself takes longer than anybody waits
            time.sleep(0.15)
        self.stored |= set(batch.items)
        return [f"answer to {item}" for item in batch.items]

    def undo(self, items):
        self.stored -= set(items)


def group(store, seconds=HANG_SECONDS, **options):
    return GroupCommit("test", store.write, seconds, max_items=options.pop("max_items", 256), **options)


def test_waiting_items_are_written_together_in_order():
    store = Store(["held"])
    commits = group(store, max_items=5)
    futures = [commits.submit(n) for n in range(12)]
    store.released.set()
    assert [future.result(HANG_SECONDS) for future in futures] == [f"answer to {n}" for n in range(12)]
    assert sum(store.batches, []) == list(range(12))  # noqa: RUF017
    assert max(map(len, store.batches)) <= 5
    commits.close()


def test_a_batch_is_limited_in_bytes_unless_a_single_item_is_larger():
    store = Store(["held"])
    commits = group(store, max_bytes=10, size=len)
    futures = [commits.submit("x" * length) for length in (1, 4, 4, 4, 30, 1)]
    store.released.set()
    wait_for(futures, HANG_SECONDS)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 10 for batch in store.batches)
    commits.close()


def test_a_bad_item_does_not_take_the_others_with_it():
    store = Store(["held", "fault", "fine", "fault"])
    commits = group(store)
    first = commits.submit("first")
    assert store.writing.wait(HANG_SECONDS)
    rest = [commits.submit(name) for name in ("good", "bad", "better")]
    store.released.set()
    assert first.result(HANG_SECONDS)
    wait_for(rest, HANG_SECONDS)
    assert [type(future.exception()) for future in rest] == [type(None), ValueError, type(None)]
    commits.close()


def test_the_writer_continues_after_faults_of_its_own(monkeypatch):
    monkeypatch.setattr("services.database.group_commit.FAULT_PAUSE_SECONDS", 0.01)
    faults = ["one", "two"]

    def tidy():
        if faults:
            raise OSError(faults.pop())
        return False

    commits = group(Store(), tidy=tidy)
    for n in range(5):
        assert commits.submit(n).result(HANG_SECONDS)
    commits.close()


def test_items_submitted_after_the_end_are_refused():
    commits = group(Store())
    commits.close()
    with pytest.raises(DatabaseUnavailable):
        commits.submit("late")


@settings(max_examples=40)
@given(
    script=st.lists(st.sampled_from(["fine", "slow", "late", "refused", "fault"]), max_size=8),
    pauses=st.lists(st.sampled_from([0.0, 0.02]), min_size=1, max_size=25),
    max_items=st.integers(1, 6),
)
def test_every_caller_is_answered_and_exactly_the_acknowledged_items_are_stored(script, pauses, max_items):
    store = Store(script)
    commits = group(store, 0.1, max_items=max_items, undo=store.undo)
    futures = {}
    for n, pause in enumerate(pauses):
        futures[n] = commits.submit(n)
        time.sleep(pause)
    assert not wait_for(futures.values(), HANG_SECONDS).not_done
    commits.close()
    promised = {n for n, future in futures.items() if future.exception() is None}
    assert all(futures[n].result() == f"answer to {n}" for n in promised)
    assert store.stored == promised
    assert all(batch == sorted(batch) for batch in store.batches)


def test_callers_on_an_event_loop_get_their_own_answers():
    store = Store()
    commits = group(store, max_items=3)

    async def ask_for_all():
        futures = [commits.submit_from_loop(n) for n in range(5)]
        futures[4].cancel()  # its client hung up, and the item is written nevertheless
        return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), HANG_SECONDS)

    *found, cancelled = asyncio.run(ask_for_all())
    commits.close()
    assert found == [f"answer to {n}" for n in range(4)]
    assert isinstance(cancelled, asyncio.CancelledError)
    assert store.stored == set(range(5))


def test_a_bad_item_of_an_event_loop_ends_with_its_own_error():
    commits = group(Store(["fault"]))

    async def ask():
        return await asyncio.wait_for(commits.submit_from_loop("bad"), HANG_SECONDS)

    with pytest.raises(ValueError, match="a bad batch"):
        asyncio.run(ask())
    commits.close()


def test_a_caller_on_an_event_loop_is_answered_in_its_time():
    store = Store(["held"])
    commits = group(store, 0.1, undo=store.undo)

    async def ask():
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(commits.submit_from_loop("waits"), HANG_SECONDS)

    asyncio.run(ask())
    store.released.set()  # the loop of the caller is closed by now
    commits.close()
    assert store.stored == set()


def test_callers_whose_loop_is_closed_do_not_stop_the_writer():
    store = Store(["held"])
    commits = group(store)

    async def ask():
        commits.submit_from_loop("nobody waits")

    asyncio.run(ask())
    store.released.set()
    assert commits.submit("next").result(HANG_SECONDS) == "answer to next"
    commits.close()
