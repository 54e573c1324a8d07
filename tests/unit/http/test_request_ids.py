"""Ids of requests: those of clients are taken if they are sound, others are unique."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.http_server import request_ids


@pytest.mark.parametrize(
    "value", [b"a", b"req-1", b"0197a1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1", b"Root=1-67-ab/x+y@z", b"x" * 128]
)
def test_usual_ids_are_sound(value):
    assert request_ids.is_sound(value)


@pytest.mark.parametrize(
    "value", [b"", b" ", b"-x", b"a b", b"a\n", b'a"', b"a\x1b[2J", "é".encode(), b"x" * 129, b"a;b", b"$(x)"]
)
def test_other_ids_are_not(value):
    assert not request_ids.is_sound(value)


@given(st.binary(max_size=200))
def test_a_sound_id_needs_no_quoting(value):
    if request_ids.is_sound(value):
        assert 0 < len(value) <= request_ids.MAX_CHARACTERS
        assert value.decode("ascii").isprintable()
        assert not set(value) & set(b" \"'\\;$`&|<>(){}*?!#")


def test_made_ids_are_sound_and_unique_after_a_fork_too():
    made = [request_ids.make() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(request_ids.is_sound(each.encode()) for each in made)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, request_ids.make().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    of_child = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert of_child.partition("-")[0] != made[0].partition("-")[0]


def test_a_request_keeps_its_id():
    scope = {}
    assert request_ids.of(scope) == request_ids.of(scope)
    assert request_ids.of({request_ids.KEY: "mine"}) == "mine"
