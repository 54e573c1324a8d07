"""The benchmark's pure parts: percentiles, the mock's dump, what counts as lost, doubled, out of order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.__main__ import in_order_of_round
from tests.bench.figures import Arrival, Faults, count_faults, medians, parse_dump, percentile

some_numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50)


def arrival(number: int, *, phone: int | None = None, chat: int | None = None) -> Arrival:
    """The arrival of message `number` by the right number and to the right chat, unless given others."""
    return Arrival(number, 0, 1500, phone or 100001 + number % 20, chat or 15550000000 + number % 1000)


def test_percentiles_of_a_hundred_values() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


@given(some_numbers, st.floats(0, 1))
def test_a_percentile_is_reached_by_its_share_of_the_values(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= math.floor(share * len(values))


def test_a_dump_is_parsed_line_by_line() -> None:
    assert parse_dump("7 1000 2500 100008 15550000007\n8 -1 3 4 5\n") == [
        Arrival(7, 1000, 2500, 100008, 15550000007),
        Arrival(8, -1, 3, 4, 5),
    ]
    assert parse_dump("") == []
    assert parse_dump("7 1000 2500 100008 15550000007\n")[0].latency_ms == 1.5


@pytest.mark.parametrize("line", ["1 2 3 4", "1 2 3 4 5 6", "1 2 three 4 5", "<html>"])
def test_an_invalid_line_of_a_dump_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_dump(line)


@given(st.lists(st.tuples(*[st.integers(0, 10**16)] * 5)))
def test_a_written_dump_is_parsed_to_the_same_arrivals(rows: list[tuple[int, int, int, int, int]]) -> None:
    dump = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    assert parse_dump(dump) == [Arrival(*row) for row in rows]


def test_all_messages_once_and_in_order_is_no_fault() -> None:
    assert count_faults([arrival(n) for n in range(3000)], 3000) == Faults()


def test_an_accepted_message_that_never_arrives_is_lost() -> None:
    assert count_faults([arrival(1), arrival(3)], accepted=4) == Faults(lost=2)


def test_a_refused_message_that_arrives_is_not_a_negative_loss() -> None:
    assert count_faults([arrival(1), arrival(2)], accepted=1) == Faults()


def test_a_duplicate_counts_once_for_each_repetition_and_is_not_out_of_order() -> None:
    arrivals = [arrival(5), arrival(1005), arrival(5), arrival(5)]
    assert count_faults(arrivals, accepted=2) == Faults(doubled=2)


def test_order_counts_within_a_chat_only() -> None:
    assert count_faults([arrival(n) for n in (9, 8, 7, 1007)], accepted=4) == Faults()
    assert count_faults([arrival(n) for n in (2007, 7, 1007, 3007)], accepted=4) == Faults(disordered=2)


def test_a_message_by_another_number_or_to_another_chat_is_astray() -> None:
    arrivals = [arrival(1, phone=100001), arrival(2, chat=15550000003), arrival(3)]
    assert count_faults(arrivals, accepted=3) == Faults(astray=2)


@given(st.permutations(range(40)), st.sets(st.integers(0, 39)))
def test_losses_and_arrivals_add_up(order: list[int], lost: set[int]) -> None:
    faults = count_faults([arrival(n) for n in order if n not in lost], accepted=40)
    assert (faults.lost, faults.doubled, faults.astray) == (len(lost), 0, 0)


def test_faults_of_rounds_add_up() -> None:
    assert Faults(1, 2, 3, 4) + Faults(10, 20, 30, 40) == Faults(11, 22, 33, 44)


def test_medians_are_by_figure_over_the_rounds_that_have_it() -> None:
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0, "b": 7.0}]
    assert medians(rounds) == {"a": 2.0, "b": 6.0}


def test_each_side_goes_first_in_every_other_round() -> None:
    assert ["".join(in_order_of_round("AB", turn)) for turn in range(4)] == ["AB", "BA", "AB", "BA"]
