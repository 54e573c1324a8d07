"""A switch of releases that is killed at any point, and again while it is put right, ends whole."""

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.errors import StartFailed
from bisnesctl.processes.switch_records import Stage, SwitchRecord, begin
from bisnesctl.releases.switch import SwitchFailed, settle, switch

OLD, NEW = 1, 2
INSTANCES = ("api-0", "api-1", "meta", "guard")


class Killed(BaseException):
    """The process that switches is killed."""


@dataclass
class Machine:
    """Instances with the release that each runs (None: it is down), the link, and the records on the disk."""

    #: The operations after which the process is killed, one for each process.
    kills: list[int] = field(default_factory=list)
    #: Which operation fails: check, migrate, reload (at an instance), watch, complete; or empty.
    fails: str = ""
    runs: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(INSTANCES, OLD))
    current: int = OLD
    record: SwitchRecord | None = None
    #: The answers to `accept` and `reject`.
    outcomes: list[tuple[str, int]] = field(default_factory=list)
    left: int | None = None

    def begin_process(self) -> None:
        self.left = self.kills.pop(0) if self.kills else None

    def tick(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def check(self) -> None:
        self.tick()
        self.fail_at("check")

    def migrate(self) -> None:
        self.tick()
        self.fail_at("migrate")

    def fail_at(self, step: str) -> None:
        if self.fails == step:
            raise StartFailed(f"{step} fails")

    def running(self) -> tuple[str, ...]:
        return tuple(name for name, release in self.runs.items() if release)

    def reload(self) -> None:
        for name in INSTANCES[:-1]:
            self.restart(name, NEW)
            if name == INSTANCES[1] and self.fails == "reload":
                self.runs[name] = None
                raise StartFailed("reload fails")

    def restart(self, name: str, release: int) -> None:
        self.tick()
        self.runs[name] = None
        self.tick()
        self.runs[name] = release

    def watch(self) -> str:
        self.tick()
        return "it is slow" if self.fails == "watch" else ""

    def complete(self) -> None:
        self.restart("guard", NEW)
        self.fail_at("complete")

    def astray(self, record: SwitchRecord) -> list[str]:
        return [name for name, release in self.runs.items() if release == NEW or (not release and name in record.ran)]

    def bring_back(self, names: list[str]) -> None:
        for name in names:
            self.restart(name, OLD)

    @contextlib.contextmanager
    def shield(self):
        yield

    def save(self, record: SwitchRecord) -> None:
        self.tick()
        self.record = record

    def forget(self, record: SwitchRecord) -> None:
        self.tick()
        self.record = None

    def accept(self, record: SwitchRecord) -> None:
        self.tick()
        self.current = NEW
        self.outcomes.append(("accepted", record.target))

    def reject(self, record: SwitchRecord, reason: str) -> None:
        self.tick()
        self.outcomes.append(("rejected", record.target))

    def switch(self) -> None:
        """One `bisnesctl release switch`, then as many processes as it takes to put right what is left."""
        self.begin_process()
        with contextlib.suppress(Killed, StartFailed):
            switch(self, begin(OLD, NEW), lambda _: None)
        while self.record is not None:
            self.begin_process()
            with contextlib.suppress(Killed):
                settle(self, self.record, lambda _: None)


@given(
    kills=st.lists(st.integers(0, 40), max_size=6),
    fails=st.sampled_from(["", "check", "migrate", "reload", "watch", "complete"]),
)
def test_a_switch_ends_with_everything_on_one_release_however_often_it_is_killed(kills, fails):
    machine = Machine(kills=kills, fails=fails)
    machine.switch()
    assert len(set(machine.runs.values())) == 1
    assert set(machine.runs.values()) == {machine.current}
    if fails:
        assert machine.current == OLD


@pytest.mark.parametrize("fails", ["check", "migrate"])
def test_a_release_that_fails_its_checks_touches_nothing_that_runs(fails):
    machine = Machine(fails=fails)
    with pytest.raises(StartFailed, match=fails):
        switch(machine, begin(OLD, NEW), lambda _: None)
    assert (machine.runs, machine.current, machine.record) == (dict.fromkeys(INSTANCES, OLD), OLD, None)
    assert machine.outcomes == [("rejected", NEW)]


@pytest.mark.parametrize(("fails", "reason"), [("reload", "reload fails"), ("watch", "it is slow")])
def test_a_release_that_fails_is_undone_and_the_reason_is_said(fails, reason):
    machine, said = Machine(fails=fails), []
    with pytest.raises(SwitchFailed, match=f"{reason}\nwent back"):
        switch(machine, begin(OLD, NEW), said.append)
    assert said == [f"going back: {reason}"]
    assert (set(machine.runs.values()), machine.record) == ({OLD}, None)


def test_an_operators_interruption_brings_everything_back():
    class Interrupted(Machine):
        def watch(self):
            raise KeyboardInterrupt

    machine = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        switch(machine, begin(OLD, NEW), lambda _: None)
    assert (set(machine.runs.values()), machine.current, machine.record) == ({OLD}, OLD, None)


def test_a_return_that_fails_is_kept_with_its_reason_and_can_be_tried_again():
    class Stuck(Machine):
        stuck = True

        def bring_back(self, names):
            if self.stuck:
                raise StartFailed("PostgreSQL is down\nits last lines")
            super().bring_back(names)

    machine = Stuck(fails="watch")
    with pytest.raises(StartFailed, match="PostgreSQL is down"):
        switch(machine, begin(OLD, NEW), lambda _: None)
    assert (machine.record.stage, machine.record.reason) == (Stage.RETURNING, "it is slow")
    assert machine.record.failed == "PostgreSQL is down"
    machine.stuck, left = False, machine.record
    assert left is not None
    settle(machine, left, lambda _: None)
    assert (set(machine.runs.values()), machine.outcomes[-1]) == ({OLD}, ("rejected", NEW))
