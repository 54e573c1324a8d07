"""The records of releases: numbers, the link, and where `rollback` returns to."""

import json

import pytest

from bisnesctl.errors import BisnesError, UsageError
from bisnesctl.releases.store import State, Store, folder_name


def make(store, number):
    folder = store.folder / folder_name(number)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    about = {"number": number, "version": "0.1.0", "revision": "", "source": ".", "at": 1.0, "by": "ann", "size": 7}
    (folder / "release.json").write_text(json.dumps(about))


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    for number in (1, 2, 3):
        make(made, number)
    return made


def test_a_number_is_never_used_again(store):
    state = store.state()
    state.highest = 9
    store.write(state)
    assert store.next_number() == 10


def test_a_folder_without_a_record_is_an_interrupted_installation(store):
    (store.folder / "0004").mkdir()
    (store.folder / "0002" / "release.json").write_text("{")
    (store.folder / "notes").mkdir()
    assert [each.number for each in store.installed()] == [1, 3]
    assert [each.name for each in store.unfinished()] == ["0002", "0004"]
    with pytest.raises(UsageError, match="no release 2"):
        store.get(2)


def test_the_link_names_the_current_release_and_is_missing_for_a_checkout(store):
    assert store.current() == 0
    store.point(2)
    assert (store.current(), (store.folder / "current").readlink().name) == (2, "0002")
    store.point(3)
    store.point(0)
    assert store.current() == 0
    assert not (store.folder / "current").is_symlink()


@pytest.mark.parametrize(
    ("accepted", "failed", "previous"),
    [
        ([(0, 1)], [], None),  # the checkout is gone
        ([(0, 1), (1, 2)], [], 1),
        ([(0, 1), (1, 2), (2, 3)], [2], 1),
        ([(0, 1), (1, 2), (2, 3), (3, 2)], [], 1),  # a rollback, so the next one goes further back
        ([(0, 1), (1, 2), (2, 1), (1, 3)], [], 1),
    ],
)
def test_rollback_returns_to_the_last_good_release_before(store, accepted, failed, previous):
    state = State()
    for origin, number in accepted:
        state.accept(origin, number)
    for number in failed:
        state.fail(number, "it was slow")
    store.write(state)
    store.point(accepted[-1][1])
    found = store.previous()
    assert (found.number if found else None) == previous


def test_a_damaged_state_is_named(store):
    (store.folder / "state.json").write_text("[]")
    with pytest.raises(BisnesError, match=r"state\.json cannot be read"):
        store.state()
