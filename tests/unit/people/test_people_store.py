"""The file of people: invitations, sign-ins, and the pause after failures."""

import contextlib
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.errors import Conflict, Unavailable, UsageError
from bisnesctl.people import one_time_codes, passwords, sign_in
from bisnesctl.people import store as people_store
from bisnesctl.people.roles import Role
from bisnesctl.people.sign_in import FREE_FAILURES, MAX_FAILURES, MAX_PAUSE_SECONDS, Refused, pause
from bisnesctl.people.store import IDLE_SECONDS, PeopleStore, normal_name

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def password_hash():
    return passwords.hash_of(PASSWORD)


@pytest.fixture
def store(tmp_path):
    return PeopleStore(tmp_path)


@pytest.fixture
def aisha(store, password_hash):
    store.accept(store.add("aisha", Role.OPERATOR, None), password_hash)
    return store


def enter(store, password=PASSWORD, code="", address="192.0.2.1", name="aisha"):
    return sign_in.sign_in(store, name, password, code, address, "Firefox")


def test_only_the_deployments_user_can_read_the_file(store):
    store.add("aisha", Role.VIEWER, None)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_an_invitation_is_valid_once_and_only_while_it_is_the_last_one(store, password_hash):
    first = store.add("aisha", Role.VIEWER, "0128")
    second = store.invite("aisha")
    assert store.accept(first, password_hash) is None
    assert store.invited(second) == "aisha"
    assert store.accept(second, password_hash) == "aisha"
    assert store.accept(second, password_hash) is None
    assert first not in store.path.read_bytes().decode("latin-1")


def test_an_invitation_expires(store, password_hash, monkeypatch):
    code = store.add("aisha", Role.VIEWER, None)
    later = time.time() + 49 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert store.invited(code) is None
    assert store.accept(code, password_hash) is None


def test_a_name_is_taken_once_and_unknown_names_list_the_known_ones(store):
    store.add("aisha", Role.VIEWER, None)
    with pytest.raises(Conflict, match="users invite aisha"):
        store.add("aisha", Role.VIEWER, None)
    with pytest.raises(UsageError, match="There are: aisha"):
        store.get("asha")


@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "a/b", "x" * 65, "ä", "a\n"])
def test_names_that_nobody_can_have(name):
    if name == "a\n":
        assert normal_name(name) == "a"
    else:
        with pytest.raises(UsageError):
            normal_name(name)


def test_a_sign_in_lasts_until_it_ends_is_idle_or_the_person_is_removed(aisha, monkeypatch):
    token, other = enter(aisha), enter(aisha)
    found = aisha.of_token(token)
    assert found.person.name == "aisha"
    assert found.person.role is Role.OPERATOR
    assert token not in aisha.path.read_bytes().decode("latin-1")
    aisha.end(found.digest)
    assert aisha.of_token(token) is None
    assert aisha.of_token(other) is not None
    later = time.time() + IDLE_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert aisha.of_token(other) is None
    third = enter(aisha)
    aisha.remove("aisha")
    assert aisha.of_token(third) is None


def test_another_role_counts_for_those_who_are_signed_in(aisha):
    token = enter(aisha)
    aisha.change("aisha", Role.VIEWER, "0128")
    person = aisha.of_token(token).person
    assert (person.role, person.company_id) == (Role.VIEWER, "0128")


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a" * 10_000])
def test_a_wrong_token_is_nobodys(aisha, token):
    assert aisha.of_token(token) is None


def test_a_new_password_ends_all_other_sign_ins(aisha, password_hash):
    own, other = enter(aisha), enter(aisha)
    aisha.set_password("aisha", password_hash, aisha.of_token(own).digest)
    assert aisha.of_token(own) is not None
    assert aisha.of_token(other) is None


def test_each_code_is_used_once(aisha):
    secret = one_time_codes.new_secret()
    aisha.set_code_secret("aisha", secret)
    with pytest.raises(Refused) as refused:
        enter(aisha)
    assert refused.value.needs_code
    code = pyotp.TOTP(secret).now()
    enter(aisha, code=code)
    with pytest.raises(Refused):
        enter(aisha, code=code)


def test_too_many_failures_stop_this_address_and_unlock_ends_it(aisha):
    for _ in range(FREE_FAILURES):
        with pytest.raises(Refused) as refused:
            enter(aisha, "wrong password")
        assert not refused.value.wait_seconds
    with pytest.raises(Refused) as refused:
        enter(aisha, "wrong password")
    assert refused.value.wait_seconds > 0
    with pytest.raises(Refused):
        enter(aisha)
    enter(aisha, address="192.0.2.2")
    aisha.forget_failures("aisha")
    enter(aisha)


def test_an_unknown_name_is_refused_like_a_wrong_password_and_is_counted(store):
    for _ in range(FREE_FAILURES + 1):
        with pytest.raises(Refused):
            enter(store, name="nobody")
    assert pause(store.failures("nobody"), "192.0.2.1") > 0
    with pytest.raises(Refused):
        enter(store, name="no such/name")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "people.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match=r"people\.sqlite3"):
        PeopleStore(tmp_path).people()


def test_pages_are_read_while_somebody_changes_the_file_or_nobody_can(aisha, monkeypatch):
    token = aisha.begin("aisha", "192.0.2.1", "x")
    monkeypatch.setattr(people_store, "LOCK_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(aisha.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert aisha.of_token(token).person.name == "aisha"
        assert [each.name for each in aisha.people()] == ["aisha"]
        later = time.time() + people_store.SEEN_SECONDS + 1
        monkeypatch.setattr(time, "time", lambda: later)
        assert aisha.of_token(token).seen_at < later  # the note of it failed
    aisha.of_token(token)
    assert aisha.of_token(token).seen_at == later


def test_several_threads_may_sign_in_at_once(aisha):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: aisha.begin("aisha", "192.0.2.1", "x"), range(40)))
    assert len(aisha.sign_ins("aisha")) == len(set(tokens)) == 40


counts = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 60), st.floats(0, 10_000)), max_size=3)


@given(counts, st.floats(0, 30_000))
def test_a_pause_is_bounded_and_ends(failures, now):
    found = pause(failures, "a", now)
    latest = max((at for _, at in failures.values()), default=0.0)
    assert 0 <= found <= max(0.0, latest + MAX_PAUSE_SECONDS - now)
    assert pause(failures, "a", now + found) < 0.001


@given(counts, st.floats(0, 10_000))
def test_more_failures_never_shorten_a_pause(failures, now):
    count, at = failures.get("a", (0, 0.0))
    assert pause(failures | {"a": (count + 1, at)}, "a", now) >= pause(failures, "a", now)


def test_many_addresses_together_stop_every_address():
    failures = {f"192.0.2.{number}": (1, 100.0) for number in range(MAX_FAILURES)}
    assert pause(failures, "198.51.100.1", 100.0) == MAX_PAUSE_SECONDS
