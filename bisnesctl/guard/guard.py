"""The guard: watches what supervisord runs, decides about instances that ended, and starts those that are due."""

import math
import queue
import time
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import structlog

from bisnesctl.audit import trail
from bisnesctl.audit.record import Source
from bisnesctl.database.process_events import LoggedCondition, ProcessEvent, ProcessEventWriter
from bisnesctl.errors import BisnesError, CannotWrite, Conflict, NotRunning, SupervisorFault
from bisnesctl.guard import hangs, policy
from bisnesctl.guard.hangs import StuckCounter
from bisnesctl.guard.interrupted_switch import InterruptedSwitch
from bisnesctl.guard.listener import SupervisorEvent
from bisnesctl.guard.policy import Decision, History
from bisnesctl.guard.restoration import find_missing
from bisnesctl.guard.state_file import End, GuardState
from bisnesctl.health import exit_reasons, heartbeats
from bisnesctl.health.guard_file import GUARD, GUARD_FILE
from bisnesctl.health.heartbeats import Heartbeat
from bisnesctl.host import disk, process_stat, tree_memory, volumes
from bisnesctl.host.process_times import boottime
from bisnesctl.processes import command_records, restart_records, stop_records, topology
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance

#: Seconds between looks at supervisord if no event arrives and no restart is due, while something happens.
WATCH_INTERVAL_SECONDS = 1.0
#: The same while everything runs as it should, which events would end.
QUIET_INTERVAL_SECONDS = 5.0
#: Seconds without an event or a decision after which everything is quiet.
QUIET_AFTER_SECONDS = 15.0
#: Seconds between checks of memory, hangs, recoveries, and of what commands left to do.
CHECK_INTERVAL_SECONDS = 5.0
#: Seconds between checks of memory, while no process tree uses more than a share of its limit.
ROOMY_CHECK_INTERVAL_SECONDS = 15.0
#: That share.
ROOMY_SHARE = 0.5
#: Seconds after which an end was noticed late, so that its own time counts; supervisord knows whole seconds only.
LATE_SECONDS = 3.0
#: Checks in a row at which a PostgreSQL neither works nor recovers, after which it counts as hung.
RECOVERY_CHECKS = 12
#: supervisord's states of a process that ended by itself.
_ENDED = ("EXITED", "FATAL")
#: The severity of supervisord's events; others are `info`.
_SEVERITY = {"exited": "warning", "backoff": "warning", "fatal": "critical", "unknown": "critical"}
#: For each decision: the process event and its severity.
_DECIDED = {
    "restart": ("process_restarting", "warning"),
    "block": ("process_blocked", "error"),
    "fail": ("process_failed", "critical"),
}
#: The process events that say what the guard did by itself. They go to the audit trail too.
_OWN_DECISIONS = {*(event for event, _ in _DECIDED.values()), "process_restored", "process_hung", "memory_exceeded"}

log = structlog.get_logger()


class Guard:
    """Guards one deployment. Everything happens on the thread that calls `run_once`."""

    def __init__(self, deployment: Deployment, state: GuardState, process_events: ProcessEventWriter) -> None:
        settings = deployment.settings
        self._deployment, self._log_dir = deployment, settings.log_dir
        self._state = state
        self._process_events = process_events
        self._processes: Mapping[str, Process] = {}  # as they were at the last look
        self._instances = {each.name: each for each in deployment.instances}
        self._refused: set[str] = set()  # instances that supervisord cannot start
        self._resident: dict[str, int] = {}  # bytes of memory of each process tree at the last check
        self._kill_at: dict[str, float] = {}  # when instances that hang are killed, in monotonic seconds
        self._next_check = self._next_memory_check = 0.0
        self._busy_until = time.monotonic() + QUIET_AFTER_SECONDS
        self._quiet_interval = min(QUIET_INTERVAL_SECONDS, settings.max_heartbeat_age / 1000 / 3)
        self._switch = InterruptedSwitch(settings)
        self._unsaved = LoggedCondition("guard.state_unsaved", "guard.state_saved")
        self._max_silence_seconds = 2 * settings.max_heartbeat_age / 1000
        checks_between_beats = math.ceil(2 * settings.heartbeat_interval / 1000 / CHECK_INTERVAL_SECONDS)
        self._silent = StuckCounter(limit=2 + checks_between_beats)
        self._recovering = StuckCounter(limit=RECOVERY_CHECKS)

    def run_once(self, events: "queue.SimpleQueue[SupervisorEvent]") -> None:
        """Waits for an event or until something is due, then does everything that is due."""
        for event in self._wait(events):
            self._record_supervisor_event(event)
        try:
            self._watch(self._deployment.supervisor.processes())
        except NotRunning:
            self._note_activity()
            log.warning("supervisord.not_answering")
        except BisnesError as error:
            self._note_activity()
            log.warning("supervisord.call_failed", reason=str(error))
        self._save()

    def _note_activity(self) -> None:
        self._busy_until = time.monotonic() + QUIET_AFTER_SECONDS

    def _wait(self, events: "queue.SimpleQueue[SupervisorEvent]") -> list[SupervisorEvent]:
        now, state = boottime(), self._state
        pauses = [each.decision.at - now for each in state.histories.values() if each.decision and each.decision.at]
        if pauses or state.renewing or state.hung or self._kill_at:
            self._note_activity()
        longest = WATCH_INTERVAL_SECONDS if time.monotonic() < self._busy_until else self._quiet_interval
        pause = min(longest, max(min(pauses, default=longest), 0.01))
        found = []
        try:
            found.append(events.get(timeout=pause))
            while True:
                found.append(events.get_nowait())
        except queue.Empty:
            if found:
                self._note_activity()
            return found

    def _save(self) -> None:
        """Writes the state. If the disk is full, the guard continues with the state in memory."""
        try:
            self._state.write(self._deployment.settings.run_dir)
        except OSError as error:
            self._unsaved.begin(disk.explain(error, self._deployment.settings.run_dir / GUARD_FILE))
        else:
            self._unsaved.end()

    # --- Events ----------------------------------------------------------------------------------------------------

    def _record_supervisor_event(self, event: SupervisorEvent) -> None:
        """Records each event once, even if supervisord sends it again to the next guard."""
        supervisor = self._deployment.supervisor_pid() or 0
        if supervisor == self._state.supervisor and event.serial <= self._state.serial:
            return
        self._state.supervisor, self._state.serial = supervisor, event.serial
        instance = self._instance(event.fields.get("processname", ""))
        if instance is None or not event.name.startswith("PROCESS_STATE_"):
            return
        state = event.name.removeprefix("PROCESS_STATE_").lower()
        fields: dict[str, Any] = {name: event.fields[name] for name in ("from_state", "pid") if name in event.fields}
        severity = _SEVERITY.get(state, "info")
        if event.fields.get("expected") == "0":  # a crash: the exit status is not 0, or a signal ended it
            severity = "error"
            fields["reason"] = exit_reasons.find_crash(self._log_dir, instance.name)
        if state == "stopped" and instance.name not in self._state.renewing:  # an operator did it
            self._state.ends.pop(instance.name, None)
            self._state.histories.pop(instance.name, None)
        self._record(instance, f"process_{state}", severity, serial=event.serial, **fields)

    def _record(
        self, instance: Instance, event: str, severity: str, at: float | None = None, **details: object
    ) -> None:
        """Records an event of an instance. `at`: in seconds since the epoch; None: now."""
        if event in _OWN_DECISIONS:
            home, reason = self._deployment.settings.home, str(details.get("reason", ""))
            trail.add_decision(home, Source.GUARD, event, instance.name, reason)
        self._process_events.record(
            ProcessEvent(instance.program.name, instance.name, event, severity, at or time.time(), details)
        )

    def _record_commands(self) -> None:
        """Records the commands of operators, an event for each program."""
        for record in command_records.take(self._deployment.settings.run_dir):
            for program, details in record.by_program():
                name = details["instances"][0]
                self._process_events.record(
                    ProcessEvent(program, name, record.event, record.severity, record.at, details)
                )

    def _record_interruptions(self) -> None:
        """Records each rolling restart whose command ended without a word since the boot, an event for each program."""
        found = restart_records.read(self._deployment.settings.run_dir)
        since = max(self._state.interrupted_at, time.time() - boottime())
        fresh = [each for each in (found.unfinished if found else []) if not each.failed and each.at > since]
        for record in reversed(fresh):
            self._state.interrupted_at = record.at
            left = [each for name in (record.now, *record.left) if (each := self._instance(name))]
            log.warning("rollout.interrupted", command=record.command, instances=[each.name for each in left])
            now = time.time()
            for program, members in groupby(sorted(left, key=_program_name), key=_program_name):
                names = [each.name for each in members]
                details = {"command": record.command, "pid": record.pid, "instances": names}
                self._process_events.record(
                    ProcessEvent(program, names[0], "command_interrupted", "warning", now, details)
                )

    def _instance(self, name: str) -> Instance | None:
        """The instance of this name. Sessions and extra instances come and go: an unknown name is looked up again."""
        if name and name not in self._instances:
            self._instances = {each.name: each for each in self._deployment.known(self._processes)}
        return self._instances.get(name)

    # --- Restarts --------------------------------------------------------------------------------------------------

    def _watch(self, processes: Mapping[str, Process]) -> None:
        self._processes = processes
        now = boottime()
        for name, process in processes.items():
            instance = self._instance(name)
            if instance is not None and name != GUARD:
                try:
                    self._watch_instance(instance, process, now)
                except SupervisorFault as error:  # it concerns this instance only, and is tried again at the next look
                    log.warning("instance.action_refused", instance=name, reason=str(error))
        for found in (self._state.histories, self._state.ends):
            for gone in found.keys() - processes.keys():
                del found[gone]
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_INTERVAL_SECONDS
            self._restore(find_missing(self._deployment, processes))
            if time.monotonic() >= self._next_memory_check:
                self._check_memory(processes)
            self._check_hangs(processes)
            self._check_recoveries(processes)
            self._record_commands()
            self._record_interruptions()
            self._switch.look()

    def _restore(self, missing: list[Instance]) -> None:
        """Starts instances that should run, unless a command is starting or stopping something."""
        missing = [each for each in missing if each.name not in self._refused]
        if not missing:
            return
        try:
            with self._deployment.lock("guard", patience_seconds=0):
                for instance in missing:
                    if not self._start(instance):
                        continue
                    log.warning("instance.restored", instance=instance.name)
                    reason = "supervisord read its configuration again, or a start was interrupted"
                    self._record(instance, "process_restored", "warning", reason=reason)
        except (Conflict, CannotWrite):
            return

    def _start(self, instance: Instance) -> bool:
        """Starts an instance; returns whether supervisord accepted that. It is not tried again if not."""
        try:
            self._deployment.supervisor.start(instance.full_name)
        except SupervisorFault as error:
            self._refused.add(instance.name)
            log.warning("instance.action_refused", instance=instance.name, reason=str(error))
            return False
        return True

    def _watch_instance(self, instance: Instance, process: Process, now: float) -> None:
        history = self._state.of(instance.name)
        if process.state in _ENDED:
            self._handle_end(instance, process, history, now)
        elif process.settled:
            self._handle_stop(instance)
        elif process.state == "RUNNING":
            running = policy.started(history)
            self._state.histories[instance.name] = policy.forgiven(running, process.uptime, instance.program)

    def _handle_end(self, instance: Instance, process: Process, history: History, now: float) -> None:
        if history.decision is None:
            hang = self._hang_reason(instance, process)
            self._kill_at.pop(instance.name, None)
            said = exit_reasons.find_words(
                self._log_dir, instance.name, process.exit_status, process.lived, process.ended_at or None
            )
            history = policy.ended(history, instance.program, process.exit_status, process.lived, now, hang, said)
            self._state.ends[instance.name] = End(time.time(), hang or exit_reasons.manner(process.exit_status, said))
            if history.decision and history.decision.decision != "restart" and instance.program.max_restarts:
                history = self._put_off_if_disk_full(history, now)
            self._state.histories[instance.name] = history
            if hang:
                self._record(instance, "process_hung", "error", reason=hang, hangs=len(history.hangs))
            self._report_decision(instance, process, history)
        if policy.due(history, now):
            self._restart(instance, history)

    def _put_off_if_disk_full(self, history: History, now: float) -> History:
        """A full disk never makes an instance fail or be blocked: it is restarted until there is space."""
        full = next((each for each in volumes.troubled(self._deployment.settings) if each.critical), None)
        return history if full is None else policy.put_off(history, f"disk {full.mount}: {full.reason}", now)

    def _hang_reason(self, instance: Instance, process: Process) -> str:
        """Why the process was ended, by the guard or by itself, if it hung; empty if it did not hang."""
        if reason := self._state.hung.pop(instance.name, ""):
            return reason
        if process.exit_status not in instance.program.hang_exits:
            return ""
        beat = self._heartbeat(instance.name)
        return (beat and beat.reason) or f"it hung and ended with exit status {process.exit_status}"

    def _report_decision(self, instance: Instance, process: Process, history: History) -> None:
        decision = history.decision or Decision("fail", "")
        event, severity = _DECIDED[decision.decision]
        if decision.decision == "fail" and instance.program.max_restarts == 0 and process.exit_status == 0:
            severity = "info"
        pause = None if decision.at is None else round(decision.at - boottime(), 1)
        memory_bytes = self._resident.pop(instance.name, None)
        _log_decision(instance.name, decision, pause)
        self._record(
            instance,
            event,
            severity,
            at=process.ended_at if process.ended_at and time.time() - process.ended_at > LATE_SECONDS else None,
            reason=decision.reason,
            exit_status=process.exit_status,
            lived=round(process.lived, 1) if process.lived else None,
            memory_mb=None if memory_bytes is None else memory_bytes >> 20,
            until=None if decision.at is None else time.time() + decision.at - boottime(),
            deaths=len(history.deaths),
        )

    def _restart(self, instance: Instance, history: History) -> None:
        """Starts the instance, unless an operator stopped or started it meanwhile."""
        self._state.histories[instance.name] = policy.started(history)
        self._save()
        if self._deployment.supervisor.revive(instance.full_name):
            log.info("instance.restarted", instance=instance.name)

    def _handle_stop(self, instance: Instance) -> None:
        """A stopped instance stays stopped, unless the guard stopped it because of its memory."""
        name, state = instance.name, self._state
        state.hung.pop(name, None)
        self._kill_at.pop(name, None)
        reason = state.renewing.get(name)
        if reason is None or name in stop_records.read(self._deployment.settings.run_dir):
            for each in (state.histories, state.renewing, state.ends):
                each.pop(name, None)
            return
        history = state.of(name)
        if history.decision is None:
            history = state.histories[name] = policy.renewed(history, instance.program, reason, boottime())
            log.info("instance.restart_scheduled", instance=name, reason=reason)
        if policy.due(history, boottime()):
            self._deployment.supervisor.start(instance.full_name)
            del state.renewing[name]
            state.histories[name] = policy.started(history)
            self._save()
            log.info("instance.restarted", instance=name, reason=reason)

    # --- Memory ----------------------------------------------------------------------------------------------------

    def _check_memory(self, processes: Mapping[str, Process]) -> None:
        running = {each.pid: self._instances[name] for name, each in processes.items() if self._is_checked(name, each)}
        settings = self._deployment.settings
        limits = {
            pid: limit for pid, each in running.items() if (limit := topology.memory_limit(each.program, settings))
        }
        trees = tree_memory.measure(running)
        self._resident = {running[pid].name: tree.resident for pid, tree in trees.items() if tree.resident}
        if all(trees[pid].resident < limit * ROOMY_SHARE for pid, limit in limits.items()):
            self._next_memory_check = time.monotonic() + ROOMY_CHECK_INTERVAL_SECONDS
        for pid, used in tree_memory.over(limits, trees).items():
            self._renew(running[pid], used, limits[pid])

    def _is_checked(self, name: str, process: Process) -> bool:
        return name in self._instances and process.state == "RUNNING" and name not in self._state.renewing

    def _renew(self, instance: Instance, used: int, limit: int) -> None:
        """Stops the instance, so that it is started again. After its kill timeout supervisord kills it."""
        reason = f"it uses {used >> 20} MB of {limit >> 20}"
        self._state.renewing[instance.name] = reason
        self._save()
        log.warning("instance.memory_exceeded", instance=instance.name, used_mb=used >> 20, limit_mb=limit >> 20)
        self._record(instance, "memory_exceeded", "error", reason=reason, used=used, limit=limit)
        self._deployment.supervisor.stop(instance.full_name)

    # --- Hangs -----------------------------------------------------------------------------------------------------

    def _check_hangs(self, processes: Mapping[str, Process]) -> None:
        """Ends processes that report that they are stuck, and kills those without a heartbeat.

        Then they are handled like any process that ended.
        """
        silent: dict[int, tuple[Instance, float]] = {}
        for name, process in processes.items():
            if self._is_checked(name, process) and self._instances[name].program.hang_check:
                instance, beat = self._instances[name], self._heartbeat(name)
                if beat and beat.stuck and process.pid in process_stat.ancestors(beat.pid):
                    self._end(instance, process.pid, beat.stuck)
                elif (seconds := self._excessive_silence(process.pid, beat)) is not None:
                    silent[process.pid] = instance, seconds
        if silent and disk.write_refusal(self._deployment.settings.heartbeat_dir) is not None:
            silent = {}  # on a full or read-only disk no process can give a heartbeat
        for pid in self._silent.count(silent):
            instance, seconds = silent[pid]
            self._note_hang(instance, f"no heartbeat for {seconds:.0f} s")
            hangs.kill(pid)

    def _check_recoveries(self, processes: Mapping[str, Process]) -> None:
        """Kills a PostgreSQL whose recovery from a crash failed; the next one recovers once the disk permits."""
        failed = {
            process.pid: self._instances[name]
            for name, process in processes.items()
            if self._is_checked(name, process)
            and self._instances[name].program.probe == "postgres"
            and hangs.recovery_failed(process.pid)
        }
        for pid in self._recovering.count(failed):
            self._note_hang(failed[pid], "its recovery from a crash failed, and it does nothing more")
            hangs.kill(pid)

    def _heartbeat(self, name: str) -> Heartbeat | None:
        return heartbeats.current(self._deployment.settings, name)

    def _excessive_silence(self, pid: int, beat: Heartbeat | None) -> float | None:
        """Seconds without a heartbeat, if they exceed the limit."""
        if beat is not None and beat.age_seconds <= self._max_silence_seconds:
            return None  # no less than the silence: the threads of most processes need not be looked at
        try:
            seconds = hangs.silence(pid, beat)
        except OSError:  # it has just ended
            return None
        return seconds if seconds > self._max_silence_seconds else None

    def _end(self, instance: Instance, pid: int, reason: str) -> None:
        """Sends SIGTERM, so that the process can still answer its callers; after its kill timeout it is killed."""
        now = time.monotonic()
        if instance.name not in self._kill_at:
            self._kill_at[instance.name] = now + instance.program.kill_timeout
            self._note_hang(instance, reason)
            hangs.terminate(pid)
        elif now >= self._kill_at[instance.name]:
            hangs.kill(pid)

    def _note_hang(self, instance: Instance, reason: str) -> None:
        self._state.hung[instance.name] = reason
        self._save()
        log.error("instance.hung", instance=instance.name, reason=reason)


def _program_name(instance: Instance) -> str:
    return instance.program.name


def _log_decision(name: str, decision: Decision, pause: float | None) -> None:
    match decision.decision:
        case "restart":
            log.warning("instance.restart_scheduled", instance=name, reason=decision.reason, pause_seconds=pause)
        case "block":
            log.warning("instance.blocked", instance=name, reason=decision.reason, pause_seconds=pause)
        case _:
            log.warning("instance.failed", instance=name, reason=decision.reason, pause_seconds=pause)
