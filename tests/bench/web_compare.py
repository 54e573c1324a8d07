"""Compares a session of ours with wppconnect on the same simulated page: a burst, a steady rate, CPU time, commits."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.bench.figures import medians, percentile
from tests.bench.web_sides import OurSession, WebSide, pause_until, peer_started
from tests.support.waiting import wait_until
from tests.support.web_deployment import WebDeployment

#: Chats that the texts go to, in turn.
CHATS = 20
#: The limit of texts a second of a number in this benchmark: there is none in practice.
UNLIMITED_RATE = 1000.0
#: Texts a second of the steady run.
STEADY_RATE = 2.0
#: How long texts may take to arrive.
ARRIVAL_TIMEOUT_SECONDS = 240
#: How long the idle deployment's commits are counted.
IDLE_SECONDS = 10.0
#: How long acknowledgements are awaited after the last text.
SETTLING_SECONDS = 3.0

#: The number of transactions of the database cluster that have written anything.
_WRITING_TRANSACTIONS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """How much is measured in each round of each side."""

    rounds: int = 3
    burst: int = 200  # texts
    steady: int = 100  # texts


@dataclass(slots=True)
class WebComparison:
    """The figures of each side, round by round; seconds, milliseconds or counts, as their names say."""

    rounds: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))

    def medians(self) -> dict[str, dict[str, float]]:
        """The medians of each side."""
        return {side: medians(found) for side, found in self.rounds.items()}


def compare(
    deployment: WebDeployment, plan: ComparePlan, tell: Callable[[str], None], with_peer: bool = True
) -> WebComparison:  # fmt: skip
    """Measure both sides in turn; the one that goes first changes each round."""
    found = WebComparison()
    with contextlib.ExitStack() as stack:
        sides: list[WebSide] = [OurSession(deployment)]
        if with_peer:
            tell("starting wppconnect")
            sides.append(stack.enter_context(peer_started(deployment, Path(deployment.folder))))
        for side in sides:
            _Run(deployment, side, "warm-up", CHATS).burst()
        idle = _idle_commits_per_second(deployment)
        for turn in range(plan.rounds):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                tell(f"round {turn + 1} of {plan.rounds}: {side.name}")
                burst = _Run(deployment, side, f"burst {turn}", plan.burst)
                steady = _Run(deployment, side, f"steady {turn}", plan.steady)
                figures = _named("burst", burst.burst()) | _named("steady", steady.steadily())
                if side is sides[0]:
                    figures |= {"burst_commits": burst.commits(idle), "steady_commits": steady.commits(idle)}
                found.rounds[side.name].append(figures)
    return found


def _named(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _idle_commits_per_second(deployment: WebDeployment) -> float:
    time.sleep(SETTLING_SECONDS)
    before = _writing_transactions(deployment)
    time.sleep(IDLE_SECONDS)
    return (_writing_transactions(deployment) - before) / IDLE_SECONDS


def _writing_transactions(deployment: WebDeployment) -> int:
    return int(deployment.rows(_WRITING_TRANSACTIONS)[0][0])


class _Run:
    """Some texts of one side, from the first POST until all their acknowledgements have been written down."""

    def __init__(self, deployment: WebDeployment, side: WebSide, name: str, count: int) -> None:
        self._deployment, self._side = deployment, side
        self._texts = [f"{name} {number:05}" for number in range(count)]
        self._posted: dict[str, float] = {}  # seconds since the epoch
        self._commits = 0
        self._seconds = 0.0

    def burst(self) -> dict[str, float]:
        """All at once: each chat's texts one after the other, the chats side by side."""
        return self._measure(self._post_all_at_once)

    def steadily(self) -> dict[str, float]:
        """At a steady rate, whether or not the answers come in time."""
        return self._measure(self._post_steadily)

    def commits(self, idle: float) -> float:
        """Writing transactions for each text, without `idle` ones a second."""
        return (self._commits - idle * self._seconds) / len(self._texts)

    def _measure(self, post: Callable[[], None]) -> dict[str, float]:
        commits, cpu, begin = _writing_transactions(self._deployment), self._side.cpu_seconds(), time.time()
        post()
        arrived = self._await_all()
        time.sleep(SETTLING_SECONDS)
        self._commits = _writing_transactions(self._deployment) - commits
        self._seconds = time.time() - begin
        latencies = [(arrived[text] - at) * 1000 for text, at in self._posted.items()]
        return {
            "texts_per_second": len(self._texts) / (max(arrived.values()) - min(self._posted.values())),
            "latency_p50_ms": percentile(latencies, 0.5),
            "latency_p99_ms": percentile(latencies, 0.99),
            "cpu_s_per_100": (self._side.cpu_seconds() - cpu) * 100 / len(self._texts),
        }

    def _post_all_at_once(self) -> None:
        with ThreadPoolExecutor(CHATS) as pool:
            list(pool.map(self._post, (self._texts[chat::CHATS] for chat in range(CHATS)), range(CHATS)))

    def _post_steadily(self) -> None:
        begin = time.time()
        with ThreadPoolExecutor(CHATS) as pool:
            posts = []
            for number, text in enumerate(self._texts):
                pause_until(begin + number / STEADY_RATE)
                posts.append(pool.submit(self._post, [text], number % CHATS))
            for each in posts:
                each.result()

    def _post(self, texts: Sequence[str], chat: int) -> None:
        for text in texts:
            self._posted[text] = time.time()
            self._side.post(f"6019300{chat:04}", text)

    def _await_all(self) -> dict[str, float]:
        """When each text arrived, in seconds since the epoch. Raises `AssertionError` if one came twice."""
        arrived: dict[str, float] = {}

        def all_there() -> bool:
            arrived.update({each["body"]: each["at"] for each in self._arrived() if each["body"] in self._posted})
            return len(arrived) == len(self._texts)

        wait_until(all_there, ARRIVAL_TIMEOUT_SECONDS, lambda: f"{len(arrived)} arrived\n{self._deployment.logs()}")
        doubled = [each["body"] for each in self._arrived() if each["arrivals"] > 1]
        assert not doubled, f"came twice: {doubled[:5]}"
        return arrived

    def _arrived(self) -> list[dict[str, Any]]:
        parameters = {"number": self._side.number, "text": self._texts[0].rpartition(" ")[0]}
        answer = requests.get(f"{self._deployment.sandbox}/wa/messages", params=parameters, timeout=60)
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found
