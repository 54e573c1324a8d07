"""How long a number in warm-up waits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.sending.send_guard import SentInHour, WarmupLimit, warmup_retry
from services.message import Scope

NOW = datetime(2026, 5, 4, 12, 45, tzinfo=UTC)
THIS = NOW.replace(minute=0)


def hours(*counts):
    """The hours up to this one, the oldest first, from (hours ago, messages, new chats)."""
    return [SentInHour(THIS - timedelta(hours=ago), messages, chats) for ago, messages, chats in counts]


@pytest.mark.parametrize(
    ("limit", "sent", "new_chat", "seconds", "scope"),
    [
        (WarmupLimit(), hours((1, 1000, 1000), (0, 1000, 1000)), True, None, None),
        (WarmupLimit(per_hour=5), hours((1, 9, 0), (0, 4, 0)), True, None, None),
        (WarmupLimit(per_hour=5), hours((0, 5, 0)), False, 15 * 60, Scope.BOT),
        (WarmupLimit(per_day=5), hours((23, 1, 0), (0, 3, 0)), False, None, None),
        (WarmupLimit(per_day=5), hours((23, 1, 0), (0, 4, 0)), False, 15 * 60, Scope.BOT),
        (WarmupLimit(per_day=5), hours((23, 1, 0), (20, 3, 0), (0, 4, 0)), False, 3 * 3600 + 15 * 60, Scope.BOT),
        (WarmupLimit(new_chats_per_day=2), hours((2, 9, 2)), False, None, None),
        (WarmupLimit(new_chats_per_day=2), hours((2, 9, 2)), True, 21 * 3600 + 15 * 60, Scope.CHAT),
        (WarmupLimit(per_hour=1, per_day=9, new_chats_per_day=9), hours((0, 1, 1)), True, 15 * 60, Scope.BOT),
    ],
)
def test_a_number_waits_until_there_is_room_again(limit, sent, new_chat, seconds, scope):
    found = warmup_retry(limit, sent, NOW, new_chat)
    assert (found and found.after, found and found.scope) == (seconds, scope)


counts = st.integers(0, 6)
some = st.none() | st.integers(1, 12)


@given(st.builds(WarmupLimit, some, some, some), st.lists(st.tuples(counts, counts), max_size=24), st.booleans())
def test_after_the_wait_it_need_not_wait_for_the_same_again(limit, each, new_chat):
    sent = [SentInHour(THIS - timedelta(hours=ago), m, min(m, c)) for ago, (m, c) in reversed(list(enumerate(each)))]
    now, waits = NOW, 0
    while found := warmup_retry(limit, _of_last_day(sent, now), now, new_chat):
        assert found.after is not None
        assert found.after > 0
        now += timedelta(seconds=found.after)
        waits += 1
    assert waits <= 3
    assert now <= NOW + timedelta(days=1)


def _of_last_day(sent, now):
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    return [each for each in sent if each.hour > this_hour - timedelta(days=1)]
