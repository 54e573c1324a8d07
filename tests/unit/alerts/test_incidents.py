"""Incidents begin, fire, end and flap as the model says, for any course of the signals."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.alerts.incidents import (
    KEPT_INCIDENTS,
    KEPT_SECONDS,
    Circumstances,
    Incident,
    Observation,
    Severity,
    Stage,
    advance,
    resolve_seconds,
)

INTERVAL = 15.0
RESOLVE = 60.0
GOOD = None


class Course:
    """The incidents of a deployment in the course of time: an evaluation every `INTERVAL` seconds."""

    def __init__(self, hold: float = 0.0) -> None:
        self.hold = hold
        self.now = 1_700_000_000.0
        self.incidents: list[Incident] = []
        #: Every change of a stage: incident's id and the new stage.
        self.changes: list[tuple[str, Stage]] = []

    def see(self, *severities: Severity | None, times: int = 1, **circumstances: object) -> "Course":
        """Evaluates `times` times; each signal has one of the severities."""
        for _ in range(times):
            self.look(
                {f"signal{n}": self.seen(f"signal{n}", each) for n, each in enumerate(severities)}, **circumstances
            )
        return self

    def seen(self, name: str, severity: Severity | None, **more: object) -> Observation:
        found = Observation(name, name, severity, f"{name} is {severity}", hold_seconds=self.hold)
        return replace(found, **more)  # type: ignore[arg-type]

    def look(self, observations: Mapping[str, Observation], **circumstances: object) -> None:
        self.now += INTERVAL
        given = Circumstances(self.now, INTERVAL, RESOLVE)
        before = {each.id: each.stage for each in self.incidents}
        self.incidents = advance(self.incidents, observations, replace(given, **circumstances))  # type: ignore[arg-type]
        self.changes += [(each.id, each.stage) for each in self.incidents if before.get(each.id) is not each.stage]

    @property
    def stages(self) -> list[Stage]:
        return [each.stage for each in self.incidents]

    def fired(self) -> int:
        return sum(stage is Stage.FIRING for _, stage in self.changes)


def test_an_incident_is_pending_then_fires_then_is_resolved():
    course = Course(hold=30)
    assert course.see(Severity.CRITICAL).stages == [Stage.PENDING]
    assert course.see(Severity.CRITICAL).stages == [Stage.PENDING]
    assert course.see(Severity.CRITICAL).stages == [Stage.FIRING]
    assert course.see(GOOD, times=3).stages == [Stage.FIRING]
    assert course.see(GOOD).stages == [Stage.RESOLVED]
    [incident] = course.incidents
    assert incident.fired_at
    assert incident.resolved_at
    assert incident.began_at < incident.fired_at < incident.resolved_at


def test_nothing_fires_at_first_sight_even_without_a_hold():
    course = Course(hold=0)
    assert course.see(Severity.CRITICAL).stages == [Stage.PENDING]
    assert course.see(Severity.CRITICAL).stages == [Stage.FIRING]


def test_a_signal_that_recovers_in_time_leaves_nothing():
    assert Course(hold=30).see(Severity.WARNING, times=2).see(GOOD).incidents == []


def test_a_signal_that_comes_back_while_it_recovers_is_the_same_incident():
    course = Course().see(Severity.WARNING, times=2).see(GOOD, times=3).see(Severity.WARNING).see(GOOD, times=3)
    assert course.stages == [Stage.FIRING]
    assert course.fired() == 1


def test_a_reading_that_is_unknown_changes_nothing():
    course = Course().see(Severity.CRITICAL, times=2)
    before = course.incidents
    course.look({"signal0": course.seen("signal0", None, known=False)})
    assert course.incidents == before
    course.look({}, is_unmeasured=lambda incident: True)
    assert course.incidents == before
    course.see(GOOD, times=4)
    assert course.stages == [Stage.RESOLVED]


def test_something_that_is_gone_is_resolved():
    course = Course().see(Severity.CRITICAL, times=2)
    for _ in range(4):
        course.look({})
    assert course.stages == [Stage.RESOLVED]


def test_what_follows_from_another_incident_does_not_fire_and_waits_again_afterwards():
    course = Course(hold=30)
    for _ in range(10):
        course.look({"follower": course.seen("follower", Severity.CRITICAL, explained_by="cause")})
    assert course.stages == [Stage.PENDING]
    course.look({"follower": course.seen("follower", Severity.CRITICAL)})
    assert course.stages == [Stage.PENDING]
    course.look({"follower": course.seen("follower", Severity.CRITICAL)})
    assert course.stages == [Stage.FIRING]


def test_nothing_begins_to_fire_while_a_command_starts_or_stops_something():
    course = Course(hold=15).see(Severity.CRITICAL, times=20, command_runs=True)
    assert course.stages == [Stage.PENDING]
    assert course.see(Severity.CRITICAL, times=2).stages == [Stage.FIRING]


def test_a_warning_that_becomes_critical_is_the_same_incident():
    course = Course().see(Severity.WARNING, times=3).see(Severity.CRITICAL)
    [incident] = course.incidents
    assert (incident.severity, course.fired()) == (Severity.CRITICAL, 1)
    assert "critical" in incident.summary


def test_an_incident_that_flaps_must_be_good_twice_as_long_each_time():
    course = Course()
    for _ in range(100):
        course.see(Severity.CRITICAL, times=2).see(GOOD, times=4)
    # ten hours of flapping every 90 s: without damping it would fire 100 times
    assert course.fired() <= 6
    flaps = [each.flaps for each in course.incidents]
    assert flaps == sorted(flaps)
    assert resolve_seconds(replace(course.incidents[-1], flaps=50), RESOLVE) == 3600


def test_resolved_incidents_are_kept_for_a_day_and_are_bounded():
    course = Course().see(Severity.CRITICAL, times=2).see(GOOD, times=4)
    assert course.stages == [Stage.RESOLVED]
    course.now += KEPT_SECONDS
    assert course.see(GOOD).incidents == []
    many = Course()
    many.see(*[Severity.WARNING] * (KEPT_INCIDENTS + 50), times=2)
    many.see(*[GOOD] * (KEPT_INCIDENTS + 50), times=4)
    assert len(many.incidents) == KEPT_INCIDENTS


def test_an_incident_is_audible_once_it_fires_without_a_silence():
    course = Course().see(Severity.WARNING, times=3, is_silenced=lambda incident: True)
    assert [each.audible for each in course.incidents] == [False]
    course.see(Severity.WARNING)
    assert [each.audible for each in course.incidents] == [True]


SIGHTS = st.lists(
    st.tuples(
        st.sampled_from([None, Severity.WARNING, Severity.CRITICAL]),
        st.booleans(),  # known
        st.sampled_from(["", "cause"]),
        st.booleans(),  # a command runs
    ),
    max_size=120,
)


@given(SIGHTS, st.sampled_from([0.0, 30.0, 120.0]))
def test_any_course_keeps_to_the_model(sights, hold):
    course = Course(hold)
    for severity, known, explained_by, command_runs in sights:
        before = {each.id: each for each in course.incidents}
        course.look(
            {"a": course.seen("a", severity, known=known, explained_by=explained_by)}, command_runs=command_runs
        )
        active = [each for each in course.incidents if each.active]
        assert len(active) <= 1
        for each in course.incidents:
            earlier = before.get(each.id)
            if earlier is None:
                assert each.stage is Stage.PENDING
            elif earlier.stage is not each.stage:
                assert (earlier.stage, each.stage) in {
                    (Stage.PENDING, Stage.FIRING), (Stage.FIRING, Stage.RESOLVED),
                }  # fmt: skip
                assert known
                if each.stage is Stage.FIRING:
                    assert (severity is not None, explained_by, command_runs) == (True, "", False)
                    assert each.bad_seconds >= hold
                else:
                    assert severity is None
    ends = [stage for _, stage in course.changes]
    assert ends.count(Stage.RESOLVED) <= ends.count(Stage.FIRING) <= ends.count(Stage.RESOLVED) + 1
    assert len({each.id for each in course.incidents}) == len(course.incidents)
