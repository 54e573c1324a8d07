"""What the guard does: looks at what supervisord runs, decides about what ended, and does what is due."""

import logging
import math
import queue
import time
from collections.abc import Mapping

from bisnesctl.errors import BisnesError, NotRunning, SupervisorFault
from bisnesctl.guard import hangs, memory, policy
from bisnesctl.guard.hangs import Silences
from bisnesctl.guard.listener import Event
from bisnesctl.guard.notes import Announcement, Note, Notes
from bisnesctl.guard.policy import Decision, History
from bisnesctl.guard.state import State, clock
from bisnesctl.health.guard_status import FILE, NAME
from bisnesctl.health.probes import Beat, ancestry, read_beat
from bisnesctl.host import disk, volumes
from bisnesctl.processes import topology
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance

#: Seconds between two looks where nothing happens and nothing is due, and between two looks at the memory.
TICK, MEMORY_TICK = 1.0, 5.0
#: Looks in a row at which a PostgreSQL neither works nor recovers, until it counts as hung.
RECOVERY_LOOKS = 12
#: supervisord's states in which a process ended without anybody having asked for it.
_ENDED = ("EXITED", "FATAL")
#: How bad an event is; what is not named is of no consequence.
_SEVERITY = {"exited": "warning", "backoff": "warning", "fatal": "critical", "unknown": "critical"}
_DECIDED = {
    "restart": ("process_restarting", "warning"),
    "block": ("process_blocked", "error"),
    "fail": ("process_failed", "critical"),
}

log = logging.getLogger(__name__)


class Guard:
    """One deployment under guard. Everything happens on the thread that calls `go_on`."""

    def __init__(self, deployment: Deployment, state: State, notes: Notes) -> None:
        self._deployment, self._state, self._notes = deployment, state, notes
        self._kills: dict[str, float] = {}  # when those that are being ended are killed, in monotonic seconds
        self._instances = {each.name: each for each in deployment.instances}
        self._next_memory = 0.0
        self._unsaved = Announcement("the guard's state is kept in memory")
        self._silence_limit = 2 * deployment.settings.max_heartbeat_age / 1000  # seconds
        beats_missed = 2 * deployment.settings.heartbeat_interval / 1000
        self._silences = Silences(looks=2 + math.ceil(beats_missed / MEMORY_TICK))
        self._recoveries = Silences(looks=RECOVERY_LOOKS)

    def go_on(self, events: "queue.SimpleQueue[Event]") -> None:
        """Do what is to be done, then wait for an event, or until something is due."""
        for event in self._waited(events):
            self._note_event(event)
        try:
            self._look(self._deployment.supervisor.processes())
        except NotRunning:
            log.warning("supervisord does not answer")
        except BisnesError as error:
            log.warning("%s", error)
        self._save()

    def _save(self) -> None:
        """Write down what is known. Without it the guard goes on by its memory: a full disk must not stop it."""
        try:
            self._state.write(self._deployment.settings.run_dir)
        except OSError as error:
            self._unsaved.begin(disk.explain(error, self._deployment.settings.run_dir / FILE))
        else:
            self._unsaved.end()

    def _waited(self, events: "queue.SimpleQueue[Event]") -> list[Event]:
        now = clock()
        pauses = [
            each.decision.at - now for each in self._state.histories.values() if each.decision and each.decision.at
        ]
        found = []
        try:
            found.append(events.get(timeout=min(TICK, max(min(pauses, default=TICK), 0.01))))
            while True:
                found.append(events.get_nowait())
        except queue.Empty:
            return found

    # --- What happened ---------------------------------------------------------------------------------------------

    def _note_event(self, event: Event) -> None:
        """Each event is noted once, also where supervisord tells it again to another guard."""
        supervisor = self._deployment.supervisor_pid() or 0
        if supervisor == self._state.supervisor and event.serial <= self._state.serial:
            return
        self._state.supervisor, self._state.serial = supervisor, event.serial
        instance = self._instance(event.facts.get("processname", ""))
        if instance is None or not event.name.startswith("PROCESS_STATE_"):
            return
        what = event.name.removeprefix("PROCESS_STATE_").lower()
        facts = {name: event.facts[name] for name in ("from_state", "pid") if name in event.facts}
        self._note(instance, f"process_{what}", _SEVERITY.get(what, "info"), serial=event.serial, **facts)

    def _note(self, instance: Instance, event: str, severity: str, **details: object) -> None:
        self._notes.take(Note(instance.program.name, instance.name, event, severity, time.time(), details))

    def _instance(self, name: str) -> Instance | None:
        """The instance of this name; sessions come and go, so an unknown one is looked for once more."""
        if name and name not in self._instances:
            self._instances = {each.name: each for each in self._deployment.instances}
        return self._instances.get(name)

    # --- What is to be done ----------------------------------------------------------------------------------------

    def _look(self, processes: Mapping[str, Process]) -> None:
        now = clock()
        for name, process in processes.items():
            instance = self._instance(name)
            if instance is not None and name != NAME:
                try:
                    self._see_to(instance, process, now)
                except SupervisorFault as error:  # of this one; it is tried again at the next look
                    log.warning("%s: %s", name, error)
        for gone in self._state.histories.keys() - processes.keys():
            del self._state.histories[gone]
        if time.monotonic() >= self._next_memory:
            self._next_memory = time.monotonic() + MEMORY_TICK
            self._check_memory(processes)
            self._check_hangs(processes)
            self._check_recoveries(processes)

    def _see_to(self, instance: Instance, process: Process, now: float) -> None:
        history = self._state.of(instance.name)
        if process.state in _ENDED:
            self._decide(instance, process, history, now)
        elif process.settled:
            self._settled(instance)
        elif process.state == "RUNNING":
            self._state.histories[instance.name] = policy.forgiven(
                policy.runs(history), process.uptime, instance.program
            )

    def _decide(self, instance: Instance, process: Process, history: History, now: float) -> None:
        if history.decision is None:
            hang = self._hang(instance, process)
            self._kills.pop(instance.name, None)
            history = policy.ended(history, instance.program, process.exit_status, process.lived, now, hang)
            if history.decision and history.decision.decision != "restart" and instance.program.max_restarts:
                history = self._blame_disk(history, now)
            self._state.histories[instance.name] = history
            if hang:
                self._note(instance, "process_hung", "error", reason=hang, hangs=len(history.hangs))
            self._tell(instance, process, history)
        if policy.due(history, now):
            self._start(instance, history)

    def _blame_disk(self, history: History, now: float) -> History:
        """Nothing is given up because of a disk that takes nothing: it is tried again until there is space."""
        full = next((each for each in volumes.troubled(self._deployment.settings) if each.critical), None)
        return history if full is None else policy.put_off(history, f"disk {full.mount}: {full.reason}", now)

    def _hang(self, instance: Instance, process: Process) -> str:
        """Why it was ended, by us or by itself, if it hung; empty if it did not."""
        if reason := self._state.hung.pop(instance.name, ""):
            return reason
        if process.exit_status not in instance.program.hang_exits:
            return ""
        beat = read_beat(self._deployment.settings.heartbeat_dir / f"{instance.name}.json")
        return (beat and beat.reason) or f"it hung, and ended with exit status {process.exit_status}"

    def _tell(self, instance: Instance, process: Process, history: History) -> None:
        decision = history.decision or Decision("fail", "")
        event, severity = _DECIDED[decision.decision]
        if decision.decision == "fail" and instance.program.max_restarts == 0 and process.exit_status == 0:
            severity = "info"
        log.warning("%s: %s, %s", instance.name, decision.decision, decision.reason)
        self._note(
            instance, event, severity,
            reason=decision.reason, exit_status=process.exit_status, until=_moment(decision.at),
            deaths=len(history.deaths),
        )  # fmt: skip

    def _start(self, instance: Instance, history: History) -> None:
        """Start it, unless somebody stopped it, or started it, meanwhile."""
        self._state.histories[instance.name] = policy.runs(history)
        self._save()
        if self._deployment.supervisor.revive(instance.full_name):
            log.info("%s is started again", instance.name)

    def _settled(self, instance: Instance) -> None:
        """Somebody stopped it, and it stays so; unless it was us, for its memory."""
        self._state.histories.pop(instance.name, None)
        self._state.hung.pop(instance.name, None)
        self._kills.pop(instance.name, None)
        if reason := self._state.renewing.pop(instance.name, None):
            self._save()
            try:
                self._deployment.supervisor.start(instance.full_name)
            except SupervisorFault:
                self._state.renewing[instance.name] = reason
                raise
            log.info("%s is started again after it used too much memory", instance.name)

    # --- Memory ----------------------------------------------------------------------------------------------------

    def _check_memory(self, processes: Mapping[str, Process]) -> None:
        running = {each.pid: self._instances[name] for name, each in processes.items() if self._counts(name, each)}
        limits = {pid: limit for pid, each in running.items() if (limit := self._limit(each))}
        for pid, used in memory.over(limits).items():
            self._renew(running[pid], used, limits[pid])

    def _counts(self, name: str, process: Process) -> bool:
        return name in self._instances and process.state == "RUNNING" and name not in self._state.renewing

    def _limit(self, instance: Instance) -> int | None:
        return topology.memory_limit(instance.program, self._deployment.settings)

    def _renew(self, instance: Instance, used: int, limit: int) -> None:
        """Have it end in order, by force after its kill timeout, which supervisord sees to; then it is started."""
        reason = f"it uses {used >> 20} MB of {limit >> 20}"
        self._state.renewing[instance.name] = reason
        self._save()
        log.warning("%s is restarted: %s", instance.name, reason)
        self._note(instance, "memory_exceeded", "error", reason=reason, used=used, limit=limit)
        self._deployment.supervisor.stop(instance.full_name)

    # --- Hangs -----------------------------------------------------------------------------------------------------

    def _check_hangs(self, processes: Mapping[str, Process]) -> None:
        """End what serves nobody by its own account, and kill what gives no sign of life; both ends are decided about
        like any other."""
        silent: dict[int, tuple[Instance, float]] = {}
        for name, process in processes.items():
            if self._is_judged(name, process):
                instance = self._instances[name]
                beat = read_beat(self._deployment.settings.heartbeat_dir / f"{name}.json")
                if beat and beat.stuck and process.pid in ancestry(beat.pid):
                    self._end(instance, process.pid, beat.stuck)
                elif (seconds := self._silence(process.pid, beat)) is not None:
                    silent[process.pid] = instance, seconds
        if silent and not hangs.can_beat(self._deployment.settings.heartbeat_dir):
            silent = {}
        for pid in self._silences.see(silent):
            instance, seconds = silent[pid]
            self._note_hang(instance, f"no heartbeat for {seconds:.0f} s")
            hangs.kill(pid)

    def _check_recoveries(self, processes: Mapping[str, Process]) -> None:
        """Kill a PostgreSQL that waits for nothing after a crash: another one recovers, once the disk lets it."""
        failed = {
            process.pid: self._instances[name] for name, process in processes.items()
            if self._counts(name, process) and self._instances[name].program.probe == "postgres"
            and hangs.recovery_failed(process.pid)
        }  # fmt: skip
        for pid in self._recoveries.see(failed):
            self._note_hang(failed[pid], "its recovery from a crash failed, and it does not go on")
            hangs.kill(pid)

    def _is_judged(self, name: str, process: Process) -> bool:
        return self._counts(name, process) and self._instances[name].program.hang_check

    def _silence(self, pid: int, beat: Beat | None) -> float | None:
        """Seconds of its silence, if they are too many."""
        try:
            seconds = hangs.silence(pid, beat)
        except OSError:  # it has just ended
            return None
        return seconds if seconds > self._silence_limit else None

    def _end(self, instance: Instance, pid: int, reason: str) -> None:
        """Have it end in order, so that what it can still answer is answered; by force after its kill timeout."""
        now = time.monotonic()
        if instance.name not in self._kills:
            self._kills[instance.name] = now + instance.program.kill_timeout
            self._note_hang(instance, reason)
            hangs.terminate(pid)
        elif now >= self._kills[instance.name]:
            hangs.kill(pid)

    def _note_hang(self, instance: Instance, reason: str) -> None:
        self._state.hung[instance.name] = reason
        self._save()
        log.error("%s hangs and is ended: %s", instance.name, reason)


def _moment(at: float | None) -> float | None:
    """A moment of the guard's clock in seconds since the epoch, as others read it."""
    return None if at is None else time.time() + at - clock()
