"""The pool of connections: its limit, its checks and its counts, with connections that break."""

import threading
from dataclasses import dataclass, field
from itertools import count

import psycopg2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.database.pool import Pool, PoolTimeout, PoolUse
from tests.support.waiting import HANG_SECONDS, wait_until

SIZE = 3
_numbers = count(1)


@dataclass(eq=False)
class Connection:
    """A connection that breaks when a test says so."""

    opened: float = field(default_factory=lambda: float(next(_numbers)))
    works: bool = True
    closed: bool = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def pool_of(size: int, seconds: float = 0.0) -> Pool[Connection]:
    return Pool(Connection, lambda connection: connection.works, size, seconds)


class PoolMachine(RuleBasedStateMachine):
    """Borrows and gives back, while connections break and PostgreSQL refuses new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses, self.opened, self.lent, self.waits = False, list[Connection](), list[Connection](), 0
        self.pool: Pool[Connection] = Pool(self.open, lambda each: each.works, SIZE, 0.0)

    def open(self) -> Connection:
        if self.refuses:
            raise psycopg2.OperationalError("no more connections")
        self.opened.append(Connection())
        return self.opened[-1]

    @rule()
    def borrow(self) -> None:
        if len(self.lent) == SIZE:
            with pytest.raises(PoolTimeout):
                self.pool.borrow()
            self.waits += 1
            return
        idle = [each for each in self.opened if not each.closed and each not in self.lent and each.works]
        if self.refuses and not idle:
            with pytest.raises(psycopg2.OperationalError):
                self.pool.borrow()
            return
        found = self.pool.borrow()
        assert found.works
        assert not found.closed
        assert found not in self.lent
        self.lent.append(found)

    @precondition(lambda self: self.lent)
    @rule(place=st.integers(0, SIZE), broken=st.booleans())
    def give_back(self, place: int, broken: bool) -> None:
        connection = self.lent.pop(place % len(self.lent))
        self.pool.give_back(connection, broken)
        assert connection.closed == broken

    @precondition(lambda self: self.opened)
    @rule(place=st.integers(0, 20))
    def break_one(self, place: int) -> None:
        self.opened[place % len(self.opened)].works = False

    @rule()
    def refuse_or_accept(self) -> None:
        self.refuses = not self.refuses

    @invariant()
    def the_use_is_known(self) -> None:
        assert self.pool.use() == PoolUse(SIZE, len(self.lent), self.waits, self.waits)
        assert sum(not each.closed for each in self.opened) <= SIZE

    def teardown(self) -> None:
        for each in self.lent:
            self.pool.give_back(each)
        self.pool.close()
        assert all(each.closed for each in self.opened)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=200, stateful_step_count=30)


def test_a_thread_that_waits_gets_the_connection_that_is_given_back() -> None:
    pool, found = pool_of(1, HANG_SECONDS), list[Connection]()
    first = pool.borrow()
    waiting = threading.Thread(target=lambda: found.append(pool.borrow()))
    waiting.start()
    wait_until(lambda: pool.use().waits == 1)
    pool.give_back(first)
    waiting.join()
    assert found == [first]
    assert pool.use() == PoolUse(1, 1, 1, 0)


def test_connections_that_are_open_when_the_pool_distrusts_are_all_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2)
    before = [pool.borrow(), pool.borrow()]
    monkeypatch.setattr("services.database.pool.time.monotonic", lambda: float(next(_numbers)))
    pool.distrust()
    for each in before:
        pool.give_back(each)
    after = [pool.borrow(), pool.borrow()]
    assert not {id(each) for each in before} & {id(each) for each in after}
    assert all(each.closed for each in before)


def test_the_connection_that_was_used_last_is_lent_first() -> None:
    pool = pool_of(2)
    first, second = pool.borrow(), pool.borrow()
    pool.give_back(second)
    pool.give_back(first)
    assert pool.borrow() is first
