"""Each target gets one notice of an incident, and one of its end, however deliveries go."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.alerts import deliveries
from bisnesctl.alerts.deliveries import ESCALATION_SECONDS, GROUP_SECONDS, Kind, Rules, TargetRecord
from bisnesctl.alerts.incidents import Circumstances, Incident, Observation, Severity, Stage, advance

NOW = 1_700_000_000.0
HOUR = 3600.0


def incident(name="a", stage=Stage.FIRING, group="", severity=Severity.WARNING, **more) -> Incident:
    resolved_at = NOW - 5 if stage is Stage.RESOLVED else None
    found = Incident(
        f"{name}@1", name, name, severity, f"{name} is bad", NOW - 100, stage=stage, fired_at=NOW - 90,
        resolved_at=resolved_at, group=group or name, audible=True,
    )  # fmt: skip
    return replace(found, **more)


def rules(now=NOW, repeat=4 * HOUR, silenced=()) -> Rules:
    return Rules(now, repeat, lambda each: each.name in silenced)


def record(since=NOW - HOUR) -> TargetRecord:
    return TargetRecord("json 1", since)


def tell(known: TargetRecord, incidents, now=NOW) -> TargetRecord:
    """The record after a message with all that is owed was delivered."""
    changes = deliveries.owed(known, incidents, rules(now))
    assert changes
    return deliveries.finished(deliveries.begun(known, "t", 1, changes, now), "", now)


def kinds(known: TargetRecord, incidents, **given) -> list[tuple[Kind, str]]:
    return [(each.kind, each.incident.name) for each in deliveries.owed(known, incidents, rules(**given))]


def test_an_incident_is_noticed_once_and_its_end_once():
    known = record()
    assert kinds(known, [incident()]) == [(Kind.FIRED, "a")]
    known = tell(known, [incident()])
    assert kinds(known, [incident()]) == []
    over = incident(stage=Stage.RESOLVED)
    assert kinds(known, [over]) == [(Kind.RESOLVED, "a")]
    assert kinds(tell(known, [over]), [over]) == []


def test_incidents_that_fire_together_are_in_one_message():
    assert kinds(record(), [incident("a"), incident("b")]) == [(Kind.FIRED, "a"), (Kind.FIRED, "b")]


@pytest.mark.parametrize("stage", [Stage.PENDING])
def test_a_pending_incident_is_not_noticed(stage):
    assert kinds(record(), [incident(stage=stage)]) == []


def test_a_silenced_or_explained_incident_is_noticed_when_that_ends():
    assert kinds(record(), [incident()], silenced={"a"}) == []
    assert kinds(record(), [incident(explained_by="b")]) == []
    assert kinds(record(), [incident()]) == [(Kind.FIRED, "a")]


def test_an_incident_that_recovers_before_it_was_noticed_is_not_noticed_as_firing():
    assert kinds(record(), [incident(good_seconds=15)]) == []


def test_what_was_over_before_it_could_be_noticed_is_noticed_as_one_message():
    over = incident(stage=Stage.RESOLVED)
    assert kinds(record(), [over]) == [(Kind.RESOLVED, "a")]


def test_what_was_over_before_a_target_was_there_is_not_noticed():
    assert kinds(record(since=NOW), [incident(stage=Stage.RESOLVED)]) == []


def test_what_was_silenced_all_the_time_is_never_noticed():
    assert kinds(record(), [incident(stage=Stage.RESOLVED, audible=False)]) == []


def test_an_incident_that_still_fires_is_repeated():
    known = tell(record(), [incident()])
    assert kinds(known, [incident()], now=NOW + 4 * HOUR - 1) == []
    assert kinds(known, [incident()], now=NOW + 4 * HOUR) == [(Kind.REPEATED, "a")]
    assert kinds(known, [incident()], now=NOW + 4 * HOUR, silenced={"a"}) == []
    assert kinds(known, [incident(explained_by="b")], now=NOW + 4 * HOUR) == []
    assert kinds(known, [incident()], now=NOW + 99 * HOUR, repeat=0) == []


def test_an_incident_that_becomes_critical_is_noticed_again_unless_it_was_noticed_a_moment_ago():
    known = tell(record(), [incident()])
    worse = incident(severity=Severity.CRITICAL)
    assert kinds(known, [worse], now=NOW + ESCALATION_SECONDS - 1) == []
    assert kinds(known, [worse], now=NOW + ESCALATION_SECONDS) == [(Kind.WORSE, "a")]


def test_more_about_the_same_thing_is_no_second_message_and_its_end_comes_with_the_last():
    first, second = incident("a", group="process api-0"), incident("b", group="process api-0")
    known = tell(record(), [first])
    known = deliveries.joined(known, [first, second], rules(NOW + 60))
    assert kinds(known, [first, second], now=NOW + 60) == []
    over = incident("a", Stage.RESOLVED, "process api-0")
    assert kinds(known, [over, second], now=NOW + 120) == []
    both = [over, incident("b", Stage.RESOLVED, "process api-0")]
    assert kinds(known, both, now=NOW + 180) == [(Kind.RESOLVED, "a"), (Kind.RESOLVED, "b")]


def test_more_that_recovers_while_the_first_message_is_on_its_way_ends_with_the_rest():
    first, second = incident("a", group="process api-0"), incident("b", group="process api-0", good_seconds=15)
    known = deliveries.joined(tell(record(), [first]), [first, second], rules(NOW + 10))
    over = incident("a", Stage.RESOLVED, "process api-0")
    assert kinds(known, [over, second], now=NOW + 20) == []
    both = [over, incident("b", Stage.RESOLVED, "process api-0")]
    assert kinds(known, both, now=NOW + 60) == [(Kind.RESOLVED, "a"), (Kind.RESOLVED, "b")]
    assert kinds(tell(known, both, now=NOW + 60), both, now=NOW + 90) == []


def test_more_about_the_same_thing_after_a_while_is_noticed():
    first, second = incident("a", group="g"), incident("b", group="g")
    known = tell(record(), [first])
    later = NOW + ESCALATION_SECONDS
    assert kinds(deliveries.joined(known, [first, second], rules(later)), [first, second], now=later) == [
        (Kind.FIRED, "b")
    ]


def test_a_delivery_that_failed_is_tried_again_after_growing_pauses():
    known, pauses = record(), []
    for _ in range(12):
        changes = deliveries.owed(known, [incident()], rules())
        known = deliveries.finished(deliveries.begun(known, "t", 1, changes, NOW), "refused", NOW)
        pauses.append(known.next_at - NOW)
    assert pauses[:3] == [10, 20, 40]
    assert pauses[-1] == 900
    assert (known.failures, known.error) == (12, "refused")
    assert not deliveries.is_due(known, NOW + 899)
    assert deliveries.is_due(known, NOW + 900)
    assert kinds(known, [incident()]) == [(Kind.FIRED, "a")]
    known = tell(known, [incident()])
    assert (known.failures, known.error) == (0, "")


def test_two_messages_to_a_target_do_not_follow_at_once_and_never_overlap():
    known = tell(record(), [incident()])
    assert not deliveries.is_due(known, NOW + GROUP_SECONDS - 1)
    assert deliveries.is_due(known, NOW + GROUP_SECONDS)
    under_way = deliveries.begun(known, "t", 1, [], NOW)
    assert not deliveries.is_due(under_way, NOW + HOUR)


def test_a_clock_that_was_moved_back_blocks_no_target():
    known = replace(record(), next_at=NOW + 10 * HOUR)
    assert deliveries.is_due(known, NOW)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=150),
    st.sampled_from([0.0, 30.0]),
)
def test_whatever_happens_messages_alternate_and_the_last_one_is_true(steps, hold):
    """`steps`: whether the signal is bad, whether deliveries fail now, whether one that is under way ends."""
    incidents: list[Incident] = []
    known, now, noticed = record(since=0), NOW, []
    for bad, fails, ends in [*steps, *[(False, False, True)] * 600]:
        now += 15
        seen = {"a": Observation("a", "a", Severity.CRITICAL if bad else None, "", hold_seconds=hold)}
        incidents = advance(incidents, seen, Circumstances(now, 15, 60))
        if known.sending is not None and ends:
            news = known.sending.news
            known = deliveries.finished(known, "no" if fails else "", now)
            if not fails:
                noticed += [(name, each.stage) for name, each in news.items()]
        if deliveries.is_due(known, now) and (changes := deliveries.owed(known, incidents, rules(now, repeat=0))):
            known = deliveries.begun(known, "t", 1, changes, now)
    assert len(noticed) == len(set(noticed)), "no notice comes twice"
    for name in {name for name, _ in noticed}:
        assert [stage for other, stage in noticed if other == name] in (
            [Stage.FIRING, Stage.RESOLVED], [Stage.RESOLVED],
        )  # fmt: skip
    assert {each.id for each in incidents if each.stage is Stage.RESOLVED} <= {name for name, _ in noticed}
