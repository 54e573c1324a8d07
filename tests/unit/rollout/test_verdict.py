"""The verdict on a step: a pure function of both sides' messages. Without data it is held, never passed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.rollout.records import (
    Alarm,
    AlarmKind,
    BotRecord,
    Comparison,
    Criteria,
    Outcomes,
    Ruling,
    latency_seconds,
    latency_step,
)
from bisnesctl.rollout.verdict import judge

codes = st.sampled_from(["131026", "131000", "overdue", "unknown"])


def outcomes(whole=0, failed=0, seconds=0.5, code="131026", spread=6):
    """Messages of which some failed, and whose latencies lie around one."""
    sent = whole - failed
    middle = latency_step(seconds)
    each = {middle + step: sent // (2 * spread + 1) for step in range(-spread, spread + 1)}
    each[middle] += sent - sum(each.values())
    return Outcomes(sent, {code: failed} if failed else {}, {step: n for step, n in each.items() if n}, sent)


FEW = outcomes(5)


def bots(prefix, *now, before=None):
    """Bots whose past is as good as usual."""
    past = before or outcomes(500, 1)
    return [BotRecord(f"{prefix}/{number}", each, past) for number, each in enumerate(now)]


@st.composite
def some_outcomes(draw):
    counts = st.integers(0, 400)
    sent = draw(st.sampled_from([0, 1, 30, 400, 3000]))
    failures = draw(st.dictionaries(codes, counts, max_size=2))
    latencies = draw(st.dictionaries(st.integers(-60, 60), counts, max_size=5)) if sent else {}
    return Outcomes(sent, failures, latencies)


@st.composite
def records(draw, side):
    found = []
    for number in range(draw(st.integers(0, 4))):
        trouble = draw(st.sampled_from(["", "", "", "token expired"]))
        found.append(
            BotRecord(
                f"{side}/{number}",
                draw(some_outcomes()),
                draw(some_outcomes()),
                draw(some_outcomes()),
                trouble=trouble,
                trouble_is_new=draw(st.booleans()),
                connected=draw(st.sampled_from([True, True, False])),
            )
        )
    return found


comparisons = st.builds(Comparison, records("0100"), records("0128"))


# --- Rules that hold for any data ----------------------------------------------------------------------------------


@given(comparisons)
def test_every_verdict_has_reasons_and_is_the_same_the_next_time(comparison):
    verdict = judge(comparison)
    assert verdict.reasons
    assert judge(comparison) == verdict


@given(comparisons)
def test_the_order_of_bots_changes_nothing(comparison):
    backwards = Comparison(comparison.moved[::-1], comparison.unmoved[::-1])
    assert judge(backwards).ruling == judge(comparison).ruling


@given(comparisons)
def test_without_messages_on_the_moved_side_nothing_passes(comparison):
    silent = [replace(each, now=Outcomes(), probes=Outcomes()) for each in comparison.moved]
    assert judge(replace(comparison, moved=silent)).ruling is not Ruling.PASS


@given(records("0100"))
def test_without_anything_to_compare_with_nothing_passes(moved):
    nothing = [replace(each, before=Outcomes(), probes=Outcomes()) for each in moved]
    for unmoved in ([], [BotRecord("0128/0"), BotRecord("0128/1")]):
        assert judge(Comparison(nothing, unmoved)).ruling is not Ruling.PASS


@given(comparisons, st.sampled_from(AlarmKind))
def test_an_alarm_fails_whatever_the_messages_say(comparison, kind):
    verdict = judge(replace(comparison, alarms=[Alarm(kind, "message 7 was sent twice")]))
    assert (verdict.ruling, verdict.reasons[0]) == (Ruling.FAIL, "message 7 was sent twice")


@given(comparisons, st.data())
def test_more_failures_on_the_moved_side_never_turn_fail_into_pass(comparison, data):
    if judge(comparison).ruling is not Ruling.FAIL or not comparison.moved:
        return
    chosen = data.draw(st.integers(0, len(comparison.moved) - 1))
    bot, code, number = comparison.moved[chosen], data.draw(codes), data.draw(st.integers(1, 500))
    failures = {**bot.now.failures, code: bot.now.failures.get(code, 0) + number}
    worse = replace(bot, now=replace(bot.now, failures=failures))
    moved = [worse if each is bot else each for each in comparison.moved]
    assert judge(replace(comparison, moved=moved)).ruling is not Ruling.PASS


@given(comparisons)
def test_more_failures_on_the_moved_side_never_make_a_pass(comparison):
    if judge(comparison).ruling is Ruling.PASS:
        return
    moved = [
        replace(each, now=replace(each.now, failures={**each.now.failures, "1": 40})) if each.now.sent else each
        for each in comparison.moved
    ]
    assert judge(replace(comparison, moved=moved)).ruling is not Ruling.PASS


@given(records("0100"))
def test_equal_sides_never_fail(found):
    calm = [replace(each, trouble="", before=each.now) for each in found]
    assert judge(Comparison(calm, [replace(each, name=f"{each.name}b") for each in calm])).ruling is not Ruling.FAIL


@given(records("0100"), records("0128"))
def test_both_sides_cannot_be_the_worse_one_by_failures(one, other):
    plain = [[replace(each, before=Outcomes(), trouble="") for each in side] for side in (one, other)]
    without = [[replace(each, now=each.now.without_latencies(), probes=Outcomes()) for each in side] for side in plain]
    codes_alike = [
        [replace(each, now=replace(each.now, failures={"1": each.now.failed})) for each in side] for side in without
    ]
    rulings = {judge(Comparison(*codes_alike)).ruling, judge(Comparison(*codes_alike[::-1])).ruling}
    assert rulings == {Ruling.FAIL, Ruling.HOLD} or Ruling.FAIL not in rulings


# --- Cases ---------------------------------------------------------------------------------------------------------


def test_many_failures_fail_in_plain_words():
    moved = bots("0100", outcomes(120, 6), outcomes(120, 6))
    unmoved = bots("0128", *[outcomes(100)] * 6, outcomes(150, 1), outcomes(150, 2))
    verdict = judge(Comparison(moved, unmoved))
    assert verdict.ruling is Ruling.FAIL
    assert verdict.reasons[0] == (
        "12 of 240 messages failed on the moved side (5.0 %), 3 of 900 on the other (0.3 %): too many; "
        "12 of them: 131026"
    )


def test_enough_good_messages_pass():
    verdict = judge(Comparison(bots("0100", outcomes(800, 4)), bots("0128", outcomes(4000, 20))))
    assert verdict.ruling is Ruling.PASS
    assert verdict.reasons == (
        "4 of 800 messages failed on the moved side (0.5 %), 20 of 4000 on the other (0.5 %): as good",
        "half of the messages leave within 0.5 s (0.5 s before) on the moved side, 0.5 s (0.5 s before) on the other: "
        "as fast",
    )


def test_few_messages_are_held_with_the_number_that_is_missing():
    verdict = judge(Comparison(bots("0100", outcomes(40)), bots("0128", outcomes(360, 1))))
    assert verdict.ruling is Ruling.HOLD
    assert "more messages are needed to be sure" in verdict.reasons[0]


def test_a_small_difference_does_not_fail_however_sure_it_is():
    moved, unmoved = bots("0100", outcomes(100_000, 1500)), bots("0128", outcomes(100_000, 500))
    assert judge(Comparison(moved, unmoved)).ruling is Ruling.PASS
    assert judge(Comparison(moved, unmoved), Criteria(failure_margin=0.005)).ruling is Ruling.FAIL


def test_slow_messages_fail():
    moved = bots("0100", outcomes(300, seconds=1.0))
    verdict = judge(Comparison(moved, bots("0128", outcomes(900))))
    assert verdict.ruling is Ruling.FAIL
    assert verdict.reasons[0] == (
        "half of the messages leave within 1.0 s (0.5 s before) on the moved side, 0.5 s (0.5 s before) on the other: "
        "too slow"
    )


def test_bots_that_were_always_slower_are_compared_with_their_own_past():
    moved = bots("0100", outcomes(600, seconds=2.0), before=outcomes(500, seconds=2.0))
    assert judge(Comparison(moved, bots("0128", outcomes(900)))).ruling is Ruling.PASS


def test_without_a_past_latencies_have_to_differ_more():
    def comparison(seconds):
        moved = bots("0100", outcomes(900, seconds=seconds), before=Outcomes())
        return Comparison(moved, bots("0128", outcomes(900), before=Outcomes()))

    assert judge(comparison(1.0)).ruling is Ruling.HOLD
    assert judge(comparison(1.5)).ruling is Ruling.FAIL


def test_latencies_that_nobody_notices_are_alike():
    moved = bots("0100", outcomes(600, seconds=0.09, spread=0), before=outcomes(500, seconds=0.01, spread=0))
    unmoved = bots("0128", outcomes(900, seconds=0.01, spread=0), before=outcomes(500, seconds=0.01, spread=0))
    assert judge(Comparison(moved, unmoved)).ruling is Ruling.PASS


def test_a_bot_that_failed_before_fails_no_rollout():
    bad = BotRecord("0100/7", outcomes(200, 60), outcomes(500, 150))
    moved = [*bots("0100", outcomes(900, 3)), bad]
    verdict = judge(Comparison(moved, bots("0128", outcomes(4000, 8))))
    assert verdict.ruling is Ruling.PASS
    assert any("bot 0100/7 is compared with its own past alone" in each for each in verdict.reasons)
    assert verdict.worse == ()


def test_a_bot_that_failed_before_and_got_much_worse_fails():
    bad = BotRecord("0100/7", outcomes(200, 190), outcomes(500, 150))
    verdict = judge(Comparison([*bots("0100", outcomes(900, 3)), bad], bots("0128", outcomes(4000, 8))))
    assert (verdict.ruling, verdict.worse) == (Ruling.FAIL, ("0100/7",))


def test_bots_that_failed_before_alone_are_judged_by_their_past():
    bad = BotRecord("0100/7", outcomes(2000, 600), outcomes(3000, 900))
    assert (
        judge(Comparison([bad], bots("0128", outcomes(4000, 8)))).ruling is Ruling.HOLD
    )  # 30 % are hard to tell apart
    worse = replace(bad, now=outcomes(2000, 1000))
    assert judge(Comparison([worse], bots("0128", outcomes(4000, 8)))).ruling is Ruling.FAIL


def test_one_bot_of_several_that_got_worse_is_named_and_holds():
    moved = bots("0100", outcomes(300), outcomes(300), outcomes(300, 150), outcomes(300))
    verdict = judge(Comparison(moved, bots("0128", outcomes(3000, 6))))
    assert (verdict.ruling, verdict.worse) == (Ruling.HOLD, ("0100/2",))
    assert verdict.reasons[0].endswith("but only because of bot 0100/2")
    assert any(each.startswith("bot 0100/2 got worse: 150 of 300") for each in verdict.reasons)


def test_several_bots_that_got_worse_fail():
    moved = bots("0100", outcomes(300, 40), outcomes(300, 40), outcomes(300, 150), outcomes(300))
    assert judge(Comparison(moved, bots("0128", outcomes(3000, 6)))).ruling is Ruling.FAIL


def test_one_bad_bot_of_the_other_side_hides_nothing():
    unmoved = bots("0128", outcomes(300, 150), outcomes(300), outcomes(300))
    assert judge(Comparison(bots("0100", outcomes(900, 90)), unmoved)).ruling is not Ruling.PASS


def test_a_new_code_fails_though_the_sum_does_not():
    moved = bots("0100", outcomes(900, 45, code="132000"))
    verdict = judge(Comparison(moved, bots("0128", outcomes(900, 45))))
    assert verdict.ruling is Ruling.FAIL
    assert "45 of 900 messages failed with the code 132000 on the moved side" in verdict.reasons[0]


def test_the_last_step_is_compared_with_the_past():
    past = outcomes(3000, 6)
    assert judge(Comparison(bots("0100", outcomes(900, 2), before=past))).ruling is Ruling.PASS
    verdict = judge(Comparison(bots("0100", outcomes(900, 90), before=past)))
    assert verdict.ruling is Ruling.FAIL
    assert "before the move" in verdict.reasons[0]


def test_trouble_on_both_sides_does_not_fail():
    moved, unmoved = bots("0100", outcomes(500, 100)), bots("0128", outcomes(2000, 400))
    assert judge(Comparison(moved, unmoved)).ruling is Ruling.HOLD


def test_one_bot_with_an_expired_token_neither_fails_nor_stops_a_rollout():
    token = BotRecord("0100/9", Outcomes(), outcomes(500, 1), trouble="token expired", trouble_is_new=True)
    moved = [*bots("0100", outcomes(500, 1), outcomes(500, 1)), token]
    unmoved = bots("0128", *[outcomes(500, 1)] * 17)
    verdict = judge(Comparison(moved, unmoved))
    assert verdict.ruling is Ruling.PASS
    assert "bot 0100/9 cannot send: token expired" in verdict.reasons


def test_moved_bots_that_all_lost_their_token_fail():
    lost = [
        BotRecord(f"0100/{number}", Outcomes(), outcomes(500, 1), trouble="token refused", trouble_is_new=True)
        for number in range(2)
    ]
    verdict = judge(Comparison(lost, bots("0128", *[outcomes(500, 1)] * 18)))
    assert verdict.ruling is Ruling.FAIL
    assert verdict.reasons[0] == (
        "2 bots of 2 moved cannot send since the step began (0100/0, 0100/1), 0 of 18 others: too many"
    )


def test_the_only_moved_bot_that_lost_its_token_holds():
    lost = BotRecord("0100/0", trouble="token refused", trouble_is_new=True)
    verdict = judge(Comparison([lost], bots("0128", *[outcomes(500, 1)] * 9)))
    assert verdict.ruling is Ruling.HOLD


def test_a_bot_that_is_not_connected_yet_holds():
    moved = [replace(each, connected=False) for each in bots("0100", outcomes(900, 2))]
    verdict = judge(Comparison(moved, bots("0128", outcomes(4000, 9))))
    assert (verdict.ruling, verdict.reasons[0]) == (Ruling.HOLD, "1 bot not connected yet: 0100/0")


def test_probes_pass_a_step_whose_customers_write_little():
    def probed(prefix, failed=0, now=FEW):
        return [replace(each, probes=outcomes(700, failed)) for each in bots(prefix, now)]

    verdict = judge(Comparison(probed("0100"), probed("0128")))
    assert verdict.ruling is Ruling.PASS
    assert verdict.reasons[0].startswith("none of 700 probes failed on the moved side")
    assert judge(Comparison(probed("0100", 70), probed("0128"))).ruling is Ruling.FAIL
    suspicious = probed("0100", now=outcomes(5, 2))
    assert judge(Comparison(suspicious, probed("0128", now=outcomes(50)))).ruling is Ruling.HOLD


def test_probes_are_never_added_to_the_messages_of_customers():
    moved = [replace(each, probes=outcomes(3000)) for each in bots("0100", outcomes(240, 12))]
    unmoved = [replace(each, probes=outcomes(3000)) for each in bots("0128", outcomes(900, 3))]
    verdict = judge(Comparison(moved, unmoved))
    assert verdict.ruling is Ruling.FAIL
    assert "12 of 240 messages" in verdict.reasons[0]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1, 7, 60, 3600])
def test_a_latency_is_kept_within_a_few_percent(seconds):
    assert latency_seconds(latency_step(seconds)) == pytest.approx(seconds, rel=0.03)


def test_a_verdict_as_json():
    verdict = judge(Comparison())
    assert verdict.plain() == {"ruling": "hold", "reasons": list(verdict.reasons), "worse": []}
