"""Measures WhatsApp Web numbers: start, memory, latency, recovery, and isolation while processes are killed.

A whole deployment in the sandbox is measured, on the simulator's page with the real wa-js bundle.
"""

import contextlib
import itertools
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests

from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from tests.bench import usage
from tests.bench.figures import percentile
from tests.support.waiting import wait_until
from tests.support.web_deployment import COMPANY, PARTS, WebDeployment, command_of

#: How long sent messages may take to arrive.
ARRIVAL_SECONDS = 240
#: Messages a second of the Meta number, a little below its limit.
META_RATE = 18.0
#: How long it is measured while nothing else happens: a p99 needs a thousand messages.
QUIET_SECONDS = 60.0
#: How long it sends before: PostgreSQL writes whole pages then, as after every checkpoint.
WARM_UP_SECONDS = 10.0

#: Each thread's `client`, which keeps its connection: opening one for each message would distort the figures.
_own = threading.local()


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    sessions: int = 5
    repeats: int = 3  # of each kill
    texts: int = 50  # for the latency
    faulty_sessions: int = 3
    messages: int = 500  # while everything is killed
    between_kills: float = 6.0  # seconds


@dataclass(slots=True)
class Found:
    """The figures: seconds, milliseconds or MiB, as their names say."""

    figures: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)  # MiB of each part, by what was measured
    faults: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same for a report."""
        return asdict(self)


@contextlib.contextmanager
def deployed(rate: float = 20) -> Iterator[WebDeployment]:
    """A deployment with a Meta number and nothing else yet. `rate`: texts a second of each WhatsApp Web number."""
    folder = Path(tempfile.mkdtemp(prefix="bisnes-bench-web-"))
    deployment = WebDeployment(folder, WWEBJS_MAX_MESSAGES_PER_SECOND=str(rate))
    try:
        deployment.run("start", "--multiprocess", "--sandbox")
        deployment.add_demo_bot(COMPANY)
        yield deployment
    finally:
        deployment.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(plan: Plan, tell: Callable[[str], None]) -> Found:
    """Measure everything, one after the other. `tell` is called with the name of each step."""
    found = Found()
    with deployed() as deployment:
        tell("one session")
        number = _link(deployment, 1)
        _settle_down()
        found.memory["one session"] = memory_of(deployment, [1])
        found.memory["one bare Chromium on the same page"] = bare_memory(deployment, 1)
        tell("latency of texts")
        found.figures |= latency(deployment, number, plan.texts)
        for part in PARTS:
            tell(f"recovery from SIGKILL of the {part}")
            found.figures[f"recovery_{part}_s"] = median(recovery(deployment, number, part, plan.repeats))
        found.figures["start_to_ready_s"] = start_to_ready(deployment, 1)
        tell(f"{plan.sessions} sessions")
        numbers = [number, *(_link(deployment, index) for index in range(2, plan.sessions + 1))]
        _settle_down()
        found.memory[f"{plan.sessions} sessions"] = memory_of(deployment, list(range(1, plan.sessions + 1)))
        found.memory[f"{plan.sessions} bare Chromiums"] = bare_memory(deployment, plan.sessions)
        for index in range(plan.faulty_sessions + 1, plan.sessions + 1):
            deployment.sessions_call("POST", f"{COMPANY}/{index}/stop").raise_for_status()
            deployment.wait_for("STOPPED", index)
        tell(f"{plan.messages} messages while everything is killed")
        found.faults = under_fire(deployment, numbers[: plan.faulty_sessions], plan)
    return found


def _link(deployment: WebDeployment, index: int) -> str:
    deployment.add_web_bot(index)
    return deployment.link(index)


def _settle_down() -> None:
    """Wait, because a page uses more memory just after it was loaded."""
    time.sleep(15)


def memory_of(deployment: WebDeployment, indexes: list[int]) -> dict[str, float]:
    """MiB (PSS) of the sessions' own Python, their drivers and their browsers."""
    status = deployment.status()
    found: defaultdict[str, float] = defaultdict(float)
    for index in indexes:
        root = psutil.Process(int(status[deployment.program(index)]["pid"]))
        for process in usage.tree([root]):
            found[_kind(process.pid)] += usage.pss_mib(process)
    return dict(found)


def _kind(pid: int) -> str:
    words = command_of(pid)
    name = Path(words[0]).name if words else ""
    if name.startswith("chromedriver"):
        return "driver"
    return "python" if name.startswith("python") else "browser"


def bare_memory(deployment: WebDeployment, count: int) -> dict[str, float]:
    """MiB (PSS) of N browsers with the simulator's page and a profile each, but without wa-js and sessions."""
    empty = deployment.folder / "empty.js"
    empty.write_text("")
    page = f"http://127.0.0.1:{deployment.settings.sandbox_port}/_wa/"
    with contextlib.ExitStack() as stack:
        browsers = []
        for number in range(count):
            profile = deployment.folder / f"bare-{number}"
            browser = Browser(BrowserOptions(profile, page, empty))
            stack.callback(browser.kill)
            browser.launch()
            browser.open()
            browsers.append(browser)
        _settle_down()
        return {"browser": sum(browser.memory() for browser in browsers) / 2**20}


def start_to_ready(deployment: WebDeployment, index: int) -> float:
    """Seconds from the start of a session's process until it works, as it wrote them down last."""
    rows = deployment.rows(
        "SELECT extract(epoch FROM s.changed_at - s.started_at)::float FROM wa_session s"
        f" JOIN phone_configs c ON c.id = s.bot_id WHERE c.phone_index = {index} AND s.state = 'WORKING'"
    )
    return float(rows[0][0])


def latency(deployment: WebDeployment, number: str, texts: int) -> dict[str, float]:
    """Milliseconds from the POST of a text until WhatsApp's server has it from the page."""
    posted: dict[str, float] = {}
    for count in range(texts):
        text = f"latency {count}"
        posted[text] = time.time()
        _post(deployment, 1, "60190000001", text)
        time.sleep(0.5)
    arrived = _await_texts(deployment, [number], set(posted))
    found = [(arrived[text] - at) * 1000 for text, at in posted.items()]
    return {"latency_p50_ms": percentile(found, 0.5), "latency_p99_ms": percentile(found, 0.99)}


def _post(deployment: WebDeployment, index: int, chat: str, text: str) -> None:
    if not hasattr(_own, "client"):
        _own.client = requests.Session()
    answer = _own.client.post(
        f"{deployment.api}/api/v2/messages/text/{COMPANY}/{chat}", json={"message": text, "phoneIndex": index},
        headers={"X-Api-Key": deployment.key}, timeout=30,
    )  # fmt: skip
    answer.raise_for_status()


def _await_texts(deployment: WebDeployment, numbers: list[str], texts: set[str]) -> dict[str, float]:
    """When each text arrived, in seconds since the epoch."""
    arrived: dict[str, float] = {}

    def all_there() -> bool:
        arrived.update({each["body"]: each["at"] for number in numbers for each in deployment.arrived(number)})
        return arrived.keys() >= texts

    wait_until(
        all_there, ARRIVAL_SECONDS, lambda: f"missing: {sorted(texts - arrived.keys())[:5]}\n{deployment.logs()}"
    )
    return arrived


def recovery(deployment: WebDeployment, number: str, part: str, repeats: int) -> list[float]:
    """Seconds from SIGKILL until a text that was posted right after it has arrived."""
    found = []
    for count in range(repeats):
        text = f"after {part} {count}"
        pid = deployment.part(part, 1)
        assert pid is not None, f"no {part} to kill"
        at = time.time()
        psutil.Process(pid).kill()
        _post(deployment, 1, "60190000002", text)
        found.append(_await_texts(deployment, [number], {text})[text] - at)
        time.sleep(5)
    return found


def under_fire(deployment: WebDeployment, numbers: list[str], plan: Plan) -> dict[str, Any]:
    """Messages through the sessions while their parts are killed, and Meta's latency before and meanwhile."""
    deployment.rows("CHECKPOINT")  # or PostgreSQL makes its own, every five minutes, while everything is killed
    _meta_latency(deployment, "warm-up", lambda elapsed: elapsed < WARM_UP_SECONDS)
    quiet = _meta_latency(deployment, "quiet", lambda elapsed: elapsed < QUIET_SECONDS)
    finished = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        killed = pool.submit(_kill_in_turn, deployment, len(numbers), plan.between_kills, finished)
        meta = pool.submit(_meta_latency, deployment, "fire", lambda _: not finished.is_set())
        try:
            texts = _converse(deployment, len(numbers), plan)
            _await_outcomes(deployment)
        finally:
            finished.set()
        kills, fire = killed.result(), meta.result()
    arrived = _await_texts(deployment, numbers, set(texts))
    return {
        "messages": len(texts),
        "killed": dict(kills),
        "lost": len(set(texts) - arrived.keys()),
        "doubled": deployment.duplicates(numbers).total(),
        "disordered": _disordered(deployment, numbers, set(texts)),
        "meta_quiet_p99_ms": percentile(quiet, 0.99),
        "meta_fire_p99_ms": percentile(fire, 0.99),
        "meta_quiet_p50_ms": percentile(quiet, 0.5),
        "meta_fire_p50_ms": percentile(fire, 0.5),
    }


def _await_outcomes(deployment: WebDeployment) -> None:
    """Until nothing is on its way through a session. The simulator is not asked: it has Meta's messages to take."""
    waiting = """SELECT count(*) FROM outbox o JOIN phone_configs c ON c.id = o.bot_id
        WHERE c.process_name = 'wwebjs' AND o.status <= 'sending'"""
    wait_until(lambda: deployment.rows(waiting) == [(0,)], ARRIVAL_SECONDS, deployment.logs)


def _converse(deployment: WebDeployment, sessions: int, plan: Plan) -> list[str]:
    """Ten chats a session, in turn, spread so that the kills fall between them."""
    texts = []
    for count in range(plan.messages):
        index, chat = 1 + count % sessions, count // sessions % 10
        text = f"{index}/{chat}/{count:05}"
        _post(deployment, index, f"6019100{chat:04}", text)
        texts.append(text)
        time.sleep(0.15)
    return texts


def _kill_in_turn(deployment: WebDeployment, sessions: int, pause: float, finished: threading.Event) -> Counter[str]:
    killed: Counter[str] = Counter()
    for part, index in zip(itertools.cycle(PARTS), itertools.cycle(range(1, sessions + 1)), strict=False):
        if finished.wait(pause):
            break
        killed[part] += deployment.kill_part(part, index)
    return killed


def _disordered(deployment: WebDeployment, numbers: list[str], texts: set[str]) -> int:
    """How many of the messages arrived after a later one of their chat."""
    late = 0
    for number in numbers:
        last: dict[str, str] = {}
        for text in (each["body"] for each in deployment.arrived(number) if each["body"] in texts):
            chat = text.rpartition("/")[0]
            late += text < last.get(chat, "")
            last[chat] = max(text, last.get(chat, ""))
    return late


def _meta_latency(deployment: WebDeployment, name: str, going_on: Callable[[float], bool]) -> list[float]:
    """Milliseconds from POST to Graph of texts at a steady rate. `going_on` is called with the seconds so far."""
    posted: dict[str, float] = {}
    begin = time.monotonic()
    while going_on(time.monotonic() - begin):
        text = f"{name} {len(posted)}"
        posted[text] = time.time()
        _post(deployment, 0, f"6019200{len(posted) % 50:04}", text)
        time.sleep(max(0.0, begin + len(posted) / META_RATE - time.monotonic()))
    wait_until(lambda: {each["text"] for each in deployment.received()} >= posted.keys(), 60, deployment.logs)
    return [(each["at"] - posted[each["text"]]) * 1000 for each in deployment.received() if each["text"] in posted]
