"""Watches the programs of a release that has just been switched to, beside what was counted before the switch.

It sees ends of processes, instances that are no longer healthy, the shares of failed requests and messages and the
times of answers that the heartbeats count, and sends a request of its own to the API each second, so that there is
something to judge without traffic too. That request is refused as incomplete (400) and sends nothing.
"""

import http.client
import json
import time
import urllib.parse
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisnesctl.health import exit_reasons, probes
from bisnesctl.health.probes import Status
from bisnesctl.host import process_stat
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, Kind
from bisnesctl.releases.judgement import (
    Counts,
    OwnRequest,
    judge_answers,
    judge_messages,
    judge_own_requests,
)

#: Seconds between two looks.
INTERVAL_SECONDS = 1.0
#: Seconds for the answer to a request of the watch.
REQUEST_TIMEOUT_SECONDS = 5.0
#: Requests of the watch before a switch, and seconds between them.
REQUESTS_BEFORE, PAUSE_SECONDS = 5, 0.2
#: Seconds of the newest counts that are judged by themselves, so that a fault that begins late is found at once.
RECENT_SECONDS = 10.0
#: Looks in a row at which an instance is not healthy, after which the release is at fault.
UNHEALTHY_LOOKS = 3
#: Ends of a session, whose browser may crash by itself, that are no fault of the release.
SESSION_ENDS = 1
#: Seconds by which a watch is prolonged, at most, while a server does not work, since nothing can be judged then.
SERVER_PATIENCE_SECONDS = 600.0
#: An address that takes text messages, of a company that does not exist.
_PATH = "/api/v2/messages/text/0/0"
_BAD = (Status.UNHEALTHY, Status.FAILING, Status.BLOCKED, Status.FAILED, Status.DOWN)
_NOTHING = Counts()

Report = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """The counts of the programs, by their names."""

    answers: Mapping[str, Counts] = field(default_factory=dict)
    messages: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """How it was before a switch."""

    figures: Figures
    own_requests: Sequence[OwnRequest]


def measure_before(deployment: Deployment) -> Baseline:
    """How the release does that runs now."""
    url = _api_url(deployment)
    own = []
    for _ in range(REQUESTS_BEFORE if url else 0):
        own.append(_request(str(url), deployment))
        time.sleep(PAUSE_SECONDS)
    return Baseline(_figures(deployment, deployment.processes()), own)


class Watch:
    """The watch over the instances that were healthy at its beginning."""

    def __init__(self, deployment: Deployment, before: Baseline) -> None:
        processes = deployment.processes()
        active = [each for each in deployment.known(processes) if (at := processes.get(each.name)) and at.active]
        watched = [each for each in active if each.program.kind is not Kind.INFRASTRUCTURE]
        found = probes.probe_all(watched, processes, deployment.settings)
        self._deployment, self._before = deployment, before
        self._watched = [each for each in watched if found[each.name].status not in _BAD]
        self._pids = {each.name: processes[each.name].pid for each in self._watched}
        self._ends: defaultdict[str, set[int]] = defaultdict(set)  # the pids that ended
        self._unhealthy: Counter[str] = Counter()
        self._own: deque[OwnRequest] = deque(maxlen=REQUESTS_BEFORE)
        self._url = _api_url(deployment)
        self._seen: deque[tuple[float, Figures]] = deque([(time.monotonic(), _figures(deployment, processes))])

    def run(self, seconds: float, report: Report) -> str:
        """Watches this long. Returns why the release is at fault as soon as it is; empty if it is not."""
        deadline = last = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(INTERVAL_SECONDS, max(deadline - time.monotonic(), 0.01)))
            if self._deployment.supervisor.state() is None:
                return "supervisord does not answer"
            if trouble := self._server_trouble():
                if deadline == last:
                    report(f"{trouble}: nothing can be judged until it works")
                deadline = min(deadline + INTERVAL_SECONDS, last + SERVER_PATIENCE_SECONDS)
                self._unhealthy.clear()
            elif fault := self._look():
                return fault
        return ""

    def summary(self) -> str:
        """The counts that were judged, for a watch that found no fault."""
        figures = self._seen[-1][1]
        answers = sum(figures.answers.values(), _NOTHING)
        before = sum(self._before.figures.answers.values(), _NOTHING)
        if not answers.total:
            return "no requests were counted, so only health and the watch's own requests were judged"
        earlier = f", before {1000 * before.mean:.0f} ms" if before.total else ""
        return (
            f"{answers.total} requests, {answers.failed or 'none'} of them failed; {1000 * answers.mean:.0f} ms for an "
            f"answer on average{earlier}"
        )

    def _server_trouble(self) -> str:
        settings = self._deployment.settings
        found = probes.postgres(settings.database_dsn, embedded=True)
        return "" if found.healthy else f"PostgreSQL does not work ({found.reason})"

    def _look(self) -> str:
        processes = self._deployment.supervisor.processes()
        return (
            self._ended(processes) or self._turned_unhealthy(processes) or self._counted(processes) or self._answered()
        )

    def _ended(self, processes: Mapping[str, Process]) -> str:
        for each in list(self._watched):
            process, pid = processes.get(each.name), self._pids[each.name]
            if each.program.dynamic and (process is None or process.settled):
                self._watched.remove(each)  # its bot was removed or stopped meanwhile
                continue
            if process is not None and process.active and process.pid in (0, pid):
                continue
            self._ends[each.name].add(pid)
            if process is not None and process.pid:
                self._pids[each.name] = process.pid  # the guard has started it again
            if len(self._ends[each.name]) > (SESSION_ENDS if each.program.dynamic else 0):
                why = exit_reasons.find_crash(self._deployment.settings.log_dir, each.name)
                return f"{each.name} ended by itself{f': {why}' if why else ''}"
        return ""

    def _turned_unhealthy(self, processes: Mapping[str, Process]) -> str:
        found = probes.probe_all(self._watched, processes, self._deployment.settings)
        for name, health in found.items():
            self._unhealthy[name] = self._unhealthy[name] + 1 if health.status in _BAD else 0
            if self._unhealthy[name] >= UNHEALTHY_LOOKS:
                return f"{name} is {health.status}: {health.reason}"
        return ""

    def _counted(self, processes: Mapping[str, Process]) -> str:
        now, figures = time.monotonic(), _figures(self._deployment, processes)
        while len(self._seen) > 1 and self._seen[1][0] <= now - RECENT_SECONDS:
            self._seen.popleft()
        earlier = self._seen[0][1]
        self._seen.append((now, figures))
        return judge(self._before.figures, figures) or judge(self._before.figures, _since(figures, earlier))

    def _answered(self) -> str:
        if self._url is None:
            return ""
        self._own.append(_request(self._url, self._deployment))
        return judge_own_requests(self._before.own_requests, list(self._own))


def judge(before: Figures, now: Figures) -> str:
    """Why the programs are worse than before; empty if they are not."""
    for name, counts in now.answers.items():
        if fault := judge_answers(name, before.answers.get(name, _NOTHING), counts):
            return fault
    for name, counts in now.messages.items():
        if fault := judge_messages(name, before.messages.get(name, _NOTHING), counts):
            return fault
    return ""


def _since(now: Figures, earlier: Figures) -> Figures:
    """The counts since then. A program that began again counted nothing."""
    return Figures(
        {name: _difference(counts, earlier.answers.get(name, _NOTHING)) for name, counts in now.answers.items()},
        {name: _difference(counts, earlier.messages.get(name, _NOTHING)) for name, counts in now.messages.items()},
    )


def _difference(now: Counts, earlier: Counts) -> Counts:
    return now - earlier if now.total >= earlier.total and now.failed >= earlier.failed else _NOTHING


def _figures(deployment: Deployment, processes: Mapping[str, Process]) -> Figures:
    answers: dict[str, Counts] = {}
    messages: dict[str, Counts] = {}
    for instance in deployment.known(processes):
        process = processes.get(instance.name)
        beat = _beat(deployment.settings.heartbeat_dir / f"{instance.name}.json", process) if process else None
        if beat is None:
            continue
        name = instance.program.name
        if instance.program.address is not None:
            answers[name] = answers.get(name, _NOTHING) + _answers(beat)
        else:
            messages[name] = messages.get(name, _NOTHING) + _messages(beat)
    return Figures(answers, messages)


def _answers(beat: Mapping[str, Any]) -> Counts:
    if "answered" not in beat:  # an earlier release counts those of the last minute only
        return Counts(int(beat.get("responses", 0)), 0, float(beat.get("responseMs", 0)) / 1000)
    return Counts(int(beat["answered"]), int(beat.get("errors", 0)), float(beat["answeredSeconds"]))


def _messages(beat: Mapping[str, Any]) -> Counts:
    failed = int(beat.get("failed", 0))
    return Counts(int(beat.get("sent", 0)) + failed, failed)


def _beat(file: Path, process: Process) -> Mapping[str, Any] | None:
    """The last heartbeat of this very process, not of its predecessor."""
    try:
        found = json.loads(file.read_text())
        return found if process.pid and process.pid in process_stat.ancestors(int(found["pid"])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _api_url(deployment: Deployment) -> str | None:
    """The address of an API that runs; None without one, or without a key: a wrong key would count as an attack."""
    if not deployment.settings.operator_key.get_secret_value():
        return None
    processes = deployment.processes()
    found: list[Instance] = [each for each in deployment.active() if each.program.kind is Kind.API and each.url]
    return found[0].running_url(processes[found[0].name].pid) if found else None


def _request(url: str, deployment: Deployment) -> OwnRequest:
    """A request that takes the way of a message until it is refused, because it has no text."""
    key = deployment.settings.operator_key.get_secret_value()
    headers = {"Content-Type": "application/json", "X-Api-Key": key}
    parts, began = urllib.parse.urlsplit(url), time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=REQUEST_TIMEOUT_SECONDS)
    try:
        connection.request("POST", _PATH, b"{}", headers)
        answer = connection.getresponse()
        answer.read()
        fault = f"it answered {answer.status}" if answer.status >= 500 else ""
    except TimeoutError:
        fault = f"no answer within {REQUEST_TIMEOUT_SECONDS:g} s"
    except (OSError, http.client.HTTPException) as error:
        fault = str(error) or type(error).__name__
    finally:
        connection.close()
    return OwnRequest(fault, time.monotonic() - began)
