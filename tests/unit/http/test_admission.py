"""Shares of the threads: nobody gets more than its own, and no place is lost."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.http_server.admission import Admission, Share
from services.http_server.refusal import Refusal


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(1, 3),
)
def test_no_caller_exceeds_its_share_and_every_place_is_returned(requests, share):
    async def main():
        admission, running, most = Admission(), {}, {}

        async def request(caller, steps, fails):
            async with admission.turn(caller, share):
                running[caller] = running.get(caller, 0) + 1
                most[caller] = max(most.get(caller, 0), running[caller])
                try:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    if fails:
                        raise ValueError
                finally:
                    running[caller] -= 1

        tasks = [asyncio.ensure_future(request(*each)) for each in requests]
        for task in tasks[::5]:  # some in their line, some in their turn
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(count <= share for count in most.values())
        for caller in "abc":  # as many places as before
            async with admission.turn(caller, 1):
                assert not admission.progress()
        assert admission._callers == {}

    asyncio.run(main())


def test_a_queue_is_limited_and_each_caller_has_its_own():
    async def main():
        admission, leave = Admission(max_queue=2), asyncio.Event()

        async def request(caller):
            async with admission.turn(caller, 1):
                await leave.wait()

        tasks = [asyncio.ensure_future(request("a")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await request("a")
        assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
        assert "Retry-After" in refused.value.headers
        assert admission.progress() == {"a": 0}
        async with admission.turn("b", 1):
            pass
        leave.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_request_waits_for_a_thread_only_up_to_the_time_limit():
    async def main():
        admission = Admission(timeout_seconds=0.05)
        async with admission.turn("a", 1):
            with pytest.raises(Refusal):
                async with admission.turn("a", 1):
                    pass
        async with admission.turn("a", 1):
            pass

    asyncio.run(main())


def test_the_request_of_a_client_that_disconnects_leaves_the_queue():
    async def main():
        admission, leave, disconnected = Admission(max_queue=1), asyncio.Event(), asyncio.Event()
        ran = []

        async def request(name, disconnect):
            async with admission.turn("a", 1, disconnect):
                ran.append(name)
                await leave.wait()

        first = asyncio.ensure_future(request("first", None))
        await asyncio.sleep(0)
        gone = asyncio.ensure_future(request("gone", disconnected.wait))
        await asyncio.sleep(0)
        disconnected.set()
        with pytest.raises(Refusal, match="the connection was closed"):
            await gone
        last = asyncio.ensure_future(request("last", asyncio.Event().wait))  # there is room for it again
        await asyncio.sleep(0)
        leave.set()
        await asyncio.gather(first, last)
        assert ran == ["first", "last"]
        assert admission._callers == {}

    asyncio.run(main())


def test_a_caller_with_shares_for_addresses_leaves_room_for_the_others():
    async def main():
        admission, leave, ran = Admission(max_queue=5), asyncio.Event(), []

        async def request(address):
            async with admission.admit(Share("health", 4, per_address=2), address):
                ran.append(address)
                await leave.wait()

        stranger = [asyncio.ensure_future(request("203.0.113.7")) for _ in range(9)]
        await asyncio.sleep(0)
        probes = [asyncio.ensure_future(request(f"10.0.0.{n}")) for n in range(2)]
        await asyncio.sleep(0)
        assert sorted(ran) == ["10.0.0.0", "10.0.0.1", "203.0.113.7", "203.0.113.7"]
        leave.set()
        answers = await asyncio.gather(*stranger, *probes, return_exceptions=True)
        assert [isinstance(each, Refusal) for each in answers] == [False] * 7 + [True] * 2 + [False] * 2
        assert admission._callers == {}

    asyncio.run(main())
