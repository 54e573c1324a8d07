"""Measures pages of the dashboard for several people at once, and messages with and without these people.

`scripts/measure-dashboard` runs it. The rounds with and without people take turns, so that both see the same machine.
The people have a process of their own, so that those who send messages do not wait for them. Each page is opened once
before each round.
"""

import argparse
import itertools
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from bisnesctl.people import passwords
from bisnesctl.people.roles import Role
from bisnesctl.people.store import PeopleStore
from services.dashboard.access import COOKIE
from tests.bench import usage
from tests.bench.figures import percentile
from tests.support import dashboard
from tests.support.deployment import Deployment
from tests.support.two_sides import COMPANY, add_bots, chat_of
from tests.support.waiting import HANG_SECONDS, wait_until

#: Numbers of Meta that send, and chats of each.
BOTS, CHATS = 4, 8
#: Threads that post messages.
SENDERS = 8
#: Seconds that everything has to settle after its start.
SETTLE_SECONDS = 10.0


@dataclass
class Loads:
    """How long pages took, in seconds, by their address."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    processor_seconds: float = 0.0

    @property
    def all(self) -> list[float]:
        """Those of all pages."""
        return list(itertools.chain.from_iterable(self.seconds.values()))


class Person:
    """Somebody who opens one page after the other, and follows the open page as a browser does."""

    def __init__(self, address: str, token: str, first: int, pause: float, loads: Loads) -> None:
        self._address, self._pause, self._loads, self._first = address, pause, loads, first
        self._session = requests.Session()
        self._session.headers["Cookie"] = f"{COOKIE}={token}"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._follow)]

    def begin(self) -> None:
        """Begins to read."""
        for each in self._threads:
            each.start()

    def end(self) -> None:
        """Ends; `join` waits for that."""
        self._ended.set()

    def join(self) -> None:
        """Waits until the last page is there."""
        self._threads[0].join(HANG_SECONDS)

    def _read(self) -> None:
        pages = itertools.cycle([*dashboard.PAGES[self._first :], *dashboard.PAGES[: self._first]])
        while not self._ended.is_set():
            page, begun = next(pages), time.perf_counter()
            answer = self._session.get(f"{self._address}/ui{page}", timeout=HANG_SECONDS)
            self._loads.seconds.setdefault(page, []).append(time.perf_counter() - begun)
            if answer.status_code != 200:
                self._loads.failures.append(f"{page}: {answer.status_code}")
            self._ended.wait(self._pause)

    def _follow(self) -> None:
        page = dashboard.PAGES[self._first % len(dashboard.PAGES)]
        url, cookies = f"{self._address}/ui/live", {"Cookie": self._session.headers["Cookie"]}
        with requests.get(
            url, params={"page": f"/ui{page}"}, headers=cookies, stream=True, timeout=HANG_SECONDS
        ) as stream:  # fmt: skip
            for _ in stream.iter_content(None):
                if self._ended.is_set():
                    return


class Sender:
    """Posts messages at a steady rate. `latencies` says how long each took until Graph had it."""

    def __init__(self, deployment: Deployment, rate: float) -> None:
        self._deployment, self._interval = deployment, SENDERS / rate
        self._begun: dict[str, float] = {}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(n,), daemon=True) for n in range(SENDERS)]

    def __enter__(self) -> "Sender":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join(HANG_SECONDS)

    def _post(self, place: int) -> None:
        session, due = requests.Session(), time.monotonic() + place * self._interval / SENDERS
        session.headers["X-Api-Key"] = self._deployment.key
        for number in itertools.count():
            if self._ended.wait(max(due - time.monotonic(), 0)):
                return
            due += self._interval
            bot, chat, text = (place + number) % BOTS, place % CHATS, f"{id(self)}/{place}/{number}"
            self._begun[text] = time.time()
            session.post(
                f"{self._deployment.api}/api/v2/messages/text/{COMPANY}/{chat_of(bot, chat)}",
                json={"message": text, "phoneIndex": bot}, timeout=HANG_SECONDS,
            ).raise_for_status()  # fmt: skip

    def latencies(self) -> list[float]:
        """Seconds from POST to Graph. Waits for the last message."""
        found: dict[str, float] = {}

        def are_there() -> bool:
            found.update({each["text"]: float(each["at"]) for each in self._deployment.received()})
            return found.keys() >= self._begun.keys()

        wait_until(are_there, what=self._deployment.logs)
        return [found[text] - begun for text, begun in self._begun.items()]


def main() -> None:
    """Measures, and prints two tables."""
    parser = argparse.ArgumentParser(prog="scripts/measure-dashboard", description="Measures the dashboard.")
    parser.add_argument("--people", type=int, default=10, help="people at once (default: 10)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds a person reads a page (default: 1)")
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second (default: 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each part of a round (default: 30)")
    parser.add_argument("--rounds", type=int, default=2, help="parts without and with people, in turn (default: 2)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, started(Path(home)) as deployment:
        loads, latencies = Loads(), dict[bool, list[float]]({False: [], True: []})
        tokens = sign_in(deployment, chosen.people)
        for has_people in [False, True] * chosen.rounds:
            open_all(address_of(deployment), tokens[0])
            with Sender(deployment, chosen.rate) as sender:
                if has_people:
                    read(deployment, tokens, chosen.pause, chosen.seconds, loads)
                else:
                    time.sleep(chosen.seconds)
            latencies[has_people] += sender.latencies()
    print_pages(loads, f"{chosen.people} people at once, each reads a page for {chosen.pause:g} s")
    print_messages(latencies, f"{chosen.rate:g} messages a second")
    if loads.failures:
        raise SystemExit(f"pages that failed: {', '.join(sorted(set(loads.failures)))}")


@contextmanager
def started(home: Path) -> Iterator[Deployment]:
    """A deployment with its dashboard and full tables."""
    deployment = Deployment(home, ENABLE_DASHBOARD="true", ENABLE_WWEBJS="false", META_MAX_MESSAGES_PER_SECOND="500")
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        add_bots(deployment, BOTS)
        for statement in (dashboard.MANY_NUMBERS, dashboard.MANY_FAILED, dashboard.MANY_EVENTS):
            deployment.rows(statement)
        deployment.rows("ANALYZE")
        time.sleep(SETTLE_SECONDS)
        yield deployment
    finally:
        deployment.close()


def sign_in(deployment: Deployment, count: int) -> list[str]:
    """The tokens of administrators."""
    people, tokens = PeopleStore(deployment.settings.home), []
    password = passwords.hash_of(dashboard.PASSWORD)
    for number in range(count):
        name = f"person{number}"
        people.accept(people.add(name, Role.ADMINISTRATOR, None), password)
        tokens.append(people.begin(name, "127.0.0.1", "measurement"))
    return tokens


def open_all(address: str, token: str) -> None:
    """Opens each page, so that none is opened for the first time while it is measured."""
    for page in dashboard.PAGES:
        requests.get(f"{address}/ui{page}", cookies={COOKIE: token}, timeout=HANG_SECONDS)


def read(deployment: Deployment, tokens: Sequence[str], pause: float, seconds: float, loads: Loads) -> None:
    """Has everybody read for a while."""
    process = psutil.Process(deployment.pid("dashboard"))
    before = usage.cpu_seconds([process])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_read_all, (address_of(deployment), tokens, pause, seconds))
    loads.processor_seconds += usage.cpu_seconds([process]) - before
    loads.failures += found.failures
    for page, each in found.seconds.items():
        loads.seconds.setdefault(page, []).extend(each)


def _read_all(address: str, tokens: Sequence[str], pause: float, seconds: float) -> Loads:
    loads = Loads()
    people = [Person(address, token, 2 * n, pause, loads) for n, token in enumerate(tokens)]
    for each in people:
        each.begin()
        time.sleep(pause / len(people))
    time.sleep(seconds)
    for each in people:
        each.end()
    for each in people:
        each.join()
    return loads


def address_of(deployment: Deployment) -> str:
    """The address of its dashboard."""
    return f"http://127.0.0.1:{deployment.settings.dashboard_port}"


def print_pages(loads: Loads, title: str) -> None:
    """The table of pages, the slowest first."""
    rows = sorted(loads.seconds.items(), key=lambda each: -percentile(each[1], 0.95))
    print(f"\n{title}\n{'page':32} {'loads':>6} {'p50 ms':>8} {'p95 ms':>8}")
    for page, found in [*rows, ("all pages", loads.all)]:
        print(f"{page:32} {len(found):6} {1000 * percentile(found, 0.5):8.0f} {1000 * percentile(found, 0.95):8.0f}")
    share = 1000 * loads.processor_seconds / len(loads.all)
    print(f"processor time of the dashboard: {share:.0f} ms for each page, live updates included")


def print_messages(latencies: dict[bool, list[float]], title: str) -> None:
    """The table of messages."""
    print(f"\n{title}, from POST to Graph\n{'':32} {'count':>6} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for has_people, found in latencies.items():
        name = "with people" if has_people else "without people"
        shares = " ".join(f"{1000 * percentile(found, each):8.1f}" for each in (0.5, 0.95, 0.99))
        print(f"{name:32} {len(found):6} {shares}")


if __name__ == "__main__":
    main()
