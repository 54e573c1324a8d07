"""The rows of the live screen: order, filter, the states of bots, and the commands of actions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots.store import Bot
from bisnesctl.monit import table
from bisnesctl.monit.rows import GROUPS, Level, Row, Sort, matching, ordered, rows_of
from bisnesctl.processes.topology import Kind
from bisnesctl.views.overview import ProcessRow

BOT = Bot("0128", 2, "wwebjs", "wwebjs", "active", None, None, 0, None, None, None, None, None, "ok", None, [],
          "WORKING", None, None, None)  # fmt: skip
WORDS = st.text(st.characters(exclude_categories=["M", "C"]), max_size=30)
ROWS = st.lists(
    st.builds(
        Row, WORDS, st.sampled_from(GROUPS), WORDS, st.sampled_from(Level),
        st.text(max_size=5), st.integers(0, 99), st.integers(0, 9), st.none() | st.floats(0, 999),
        st.none() | st.integers(0, 50 << 30), st.none() | st.integers(0, 50 << 30), st.none() | st.integers(0, 999_999),
    )
)  # fmt: skip


@given(ROWS, st.sampled_from(Sort))
def test_an_order_loses_no_row(rows, sort):
    found = ordered(rows, sort)
    assert sorted(map(id, found)) == sorted(map(id, rows))


@given(ROWS)
def test_rows_without_a_value_come_last(rows):
    values = [row.cpu_percent for row in ordered(rows, Sort.CPU)]
    known = [value for value in values if value is not None]
    assert values == [*sorted(known, reverse=True), *[None] * (len(values) - len(known))]


def test_the_orders_come_round():
    assert [Sort.NAME.next, Sort.WAITING.next] == [Sort.CPU, Sort.NAME]


@given(ROWS, st.integers(24, 200))
def test_each_row_is_a_line_that_fits_into_the_list(rows, width):
    columns = table.columns_for(rows, width)
    titles = table.title(Sort.NAME, columns)
    assert titles.cell_len <= width
    for row in rows:
        line = table.line(row, columns)
        assert "\n" not in line.plain
        assert line.cell_len <= width
        assert columns.reason or line.cell_len == titles.cell_len


def test_the_end_of_a_long_name_stays():
    row = Row("wwebjs-session-company-with-a-long-name-12", "sessions", "healthy", Level.GOOD)
    assert "long-name-12 healthy" in table.line(row, table.columns_for([row], 63)).plain


def test_a_narrow_list_leaves_out_numbers_before_it_cuts_names():
    row = Row("wwebjs-session-0128-2", "sessions", "healthy", Level.GOOD, "", 3, 0, 1.0, 5 << 20, 9 << 20, 7)
    for width in range(33, 120):
        assert "wwebjs-session-0128-2 healthy" in table.line(row, table.columns_for([row], width)).plain
    assert table.line(row, table.columns_for([row], 120)).plain.split()[3:] == ["0/3", "1%", "5", "MB/9", "MB", "7"]


@given(ROWS, st.text(max_size=5))
def test_a_filter_keeps_all_rows_with_the_words(rows, words):
    kept = matching(rows, words)
    for row in rows:
        assert (row in kept) == all(word in row.words for word in words.lower().split())


@pytest.mark.parametrize(
    ("changes", "state", "level"),
    [
        ({}, "active", Level.GOOD),
        ({"session": "STARTING"}, "starting", Level.NOTICE),
        ({"held_until": "infinity", "held_reason": "190: expired"}, "held", Level.BAD),
        ({"outage": {"code": "503", "reason": "down", "since": "now"}}, "unavailable", Level.BAD),
        ({"paused": {"by": "ana", "reason": "prices", "since": "", "until": None}, "held_until": "infinity"}, "paused",
         Level.NOTICE),
        ({"blocked_until": "infinity", "blocked_reason": "logged out"}, "blocked", Level.BAD),
        ({"check": "warning", "problems": [{"text": "quality is low"}]}, "warning", Level.NOTICE),
    ],
)  # fmt: skip
def test_the_state_of_a_bot(changes, state, level):
    row = rows_of([], [replace(BOT, **changes)])[0]
    assert (row.state, row.level) == (state, level)


def test_the_reason_of_a_bot_is_in_the_words_of_the_other_commands():
    held = replace(BOT, held_until="infinity", held_reason="190: expired")
    [row] = rows_of([], [held], {f"{BOT.company}-{BOT.phone}": "its number is held: 190: expired"})
    assert (row.state, row.reason) == ("held", "its number is held: 190: expired")


def test_a_session_knows_that_its_bot_is_paused():
    session = ProcessRow("wwebjs-session-0128-2", "wwebjs-session", "healthy", 1, 1.0, 0.0, 1, 0, "", "sessions",
                         session="WORKING")  # fmt: skip
    paused = replace(BOT, paused={"by": "ana", "reason": None, "since": "", "until": None})
    assert [(row.bot, row.is_paused) for row in rows_of([session], [paused])] == [("0128-2", True), ("0128-2", True)]


def test_programs_of_each_kind_have_a_group():
    rows = [ProcessRow(kind.value, "program", "healthy", 1, 1.0, 1.0, 1, 0, "", kind.value) for kind in Kind]
    assert [row.name for row in rows_of(reversed(rows), [])] == [row.name for row in rows]
