"""Paging through a chat: two sources are merged by time, and a cursor leads on without gaps and repetitions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.messages import queries
from services.api.messages.queries import START, Position

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
seconds = st.integers(0, 12)


@given(st.integers(0, 2**63 - 1), st.datetimes(timezones=st.just(UTC)) | st.none(), st.uuids())
def test_a_cursor_leads_back_to_its_position(outbox, moment, message):
    position = Position(outbox, moment, str(message))
    assert Position.read(position.cursor()) == position
    assert len(position.cursor()) <= 200


@given(st.text(max_size=80) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_any_other_text_is_not_a_cursor(text):
    with pytest.raises(ValueError):
        Position.read(text)


@pytest.mark.parametrize(
    "cursor",
    [
        "WzEsMiwzXQ",  # [1,2,3]
        "bnVsbA",  # null
        "WzEsIjIwMjYtMDEtMDFUMDA6MDA6MDArMDg6MDAiLCIwMTkzNGY3ZS01YjFjLTdkM2EtOWM1NS0yZjZhN2JlMWQwYzQiXQ",  # not UTC
        "WzEsIjIwMjYtMDEtMDEiLCIwMTkzNGY3ZS01YjFjLTdkM2EtOWM1NS0yZjZhN2JlMWQwYzQiXQ",  # no time zone
        "WzEsbnVsbCwieCJd",  # no uuid
    ],
)
def test_a_forged_cursor_is_refused(cursor):
    with pytest.raises(ValueError):
        Position.read(cursor)


def _ours(moments):
    rows = [{"number": n, "moment": EPOCH + timedelta(seconds=at)} for n, at in enumerate(moments, 1)]
    return rows[::-1]


def _theirs(moments):
    rows = [
        {"messageId": f"00000000-0000-0000-0000-{n:012}", "moment": EPOCH + timedelta(seconds=at)}
        for n, at in enumerate(sorted(moments), 1)
    ]
    return rows[::-1]


def _page(ours, theirs, position, limit):
    """The rows from a position on, merged."""
    mine = [row for row in ours if row["number"] < position.outbox][: limit + 1]
    since = min(row["moment"] for row in mine) if len(mine) > limit else None
    other = [
        row
        for row in theirs
        if (position.moment is None or (row["moment"], row["messageId"]) < (position.moment, position.message))
        and (since is None or row["moment"] >= since)
    ][: limit + 1]
    merged, following = queries._merge(mine, other, position, limit)
    return merged, following, len(mine) + len(other) > len(merged)


@given(st.lists(seconds, max_size=12), st.lists(seconds, max_size=12), st.integers(1, 5))
def test_pages_give_every_message_once_and_each_source_in_its_order(our_moments, their_moments, limit):
    ours, theirs = _ours(our_moments), _theirs(their_moments)  # ours by number, regardless of their clocks
    position, more, seen = START, True, []
    while more:
        merged, position, more = _page(ours, theirs, position, limit)
        assert len(merged) == limit or not more
        seen += merged
    assert [row for row in seen if "number" in row] == ours
    assert [row for row in seen if "messageId" in row] == theirs


@given(st.lists(seconds, max_size=12), st.lists(seconds, max_size=12), st.integers(1, 5))
def test_with_clocks_that_run_forward_the_newest_comes_first(our_moments, their_moments, limit):
    ours, theirs = _ours(sorted(our_moments)), _theirs(their_moments)
    merged, _, _ = _page(ours, theirs, START, limit)
    newest = sorted((row["moment"] for row in ours + theirs), reverse=True)[:limit]
    assert [row["moment"] for row in merged] == newest
