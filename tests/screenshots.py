"""Takes the pictures of the dashboard's main pages. `scripts/screenshots` runs it.

The deployment is a real one in the sandbox. Its past is invented: figures of a week, and some messages that failed.
With `--troubles`, pictures of all pages are taken while something is wrong, for somebody who looks at them.
"""

import argparse
import base64
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from bisnesctl.series import metrics
from tests.support import dashboard
from tests.support.browser import PageBrowser, page_browser
from tests.support.deployment import Deployment
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]
#: The pictures of the documentation.
FOLDER = ROOT / "docs" / "images" / "dashboard"
#: The name of a picture → the address below /ui.
PAGES = {
    "overview": "/?span=24h", "processes": "/processes", "process": "/processes/api-0?span=24h",
    "numbers": "/numbers", "messages": "/messages", "dead-letters": "/dead-letters",
}  # fmt: skip
#: Width and height in CSS pixels.
SIZES = {"desktop": (1024, 600), "phone": (360, 560)}
#: The sizes, and whether the colours are dark, of the documentation's pictures and of those of troubles.
LOOKS = [(size, is_dark) for size in SIZES for is_dark in (False, True)]
TROUBLE_LOOKS = [("desktop", False), ("phone", True)]
#: Height of a picture of a whole page, at most.
MAX_HEIGHT = 2400
#: Companies with a number each.
COMPANIES = ("0100", "0128", "0211", "0345")
#: Seconds in which a process is killed again and again before pictures are taken.
CRASHES_SECONDS = 20.0

# Counters of a week that grow with the time of day, and gauges that follow them.
_PAST = f"""
WITH minute AS (
    SELECT now() - n * interval '1 minute' AS at, 10080 - n AS number,
        18 + 12 * sin(extract(epoch FROM now() - n * interval '1 minute') / 13750.99) + 3 * random() AS pace
    FROM generate_series(1, 10080) n
), total AS (SELECT *, sum(pace) OVER (ORDER BY number) AS total FROM minute)
INSERT INTO process_metrics (process_name, metric_name, metric_value, metric_type, timestamp, metadata)
SELECT process, metric, value, 'gauge', at, metadata FROM total, LATERAL (VALUES
    ('api', 'messages_sent', round(total), '{{}}'::jsonb),
    ('meta', 'messages_sent', round(total * 0.78), '{{}}'), ('wwebjs', 'messages_sent', round(total * 0.21), '{{}}'),
    ('meta', 'messages_failed', round(total * 0.01), '{{}}'), ('meta', 'messages_received', round(total * 0.4), '{{}}'),
    ('meta', '{metrics.QUEUE_WAITING}', round(pace / 9), '{{}}'),
    ('wwebjs', '{metrics.QUEUE_WAITING}', round(pace / 4), '{{}}'),
    ('meta', '{metrics.QUEUE_OLDEST}', pace / 40, '{{}}'), ('wwebjs', '{metrics.QUEUE_OLDEST}', pace * 1.4, '{{}}'),
    ('meta', '{metrics.LATENCY_P50}', 140 + pace * 3, '{{}}'),
    ('meta', '{metrics.LATENCY_P99}', 600 + pace * 25, '{{}}'),
    ('wwebjs', '{metrics.LATENCY_P50}', 2200 + pace * 50, '{{}}'),
    ('wwebjs', '{metrics.LATENCY_P99}', 5200 + pace * 120, '{{}}'),
    ('api', 'average_response_time', 9 + pace / 3, '{{}}'), ('meta', 'average_response_time', 130 + pace * 3, '{{}}'),
    ('meta', '{metrics.FAILURES}', CASE WHEN number % 7 = 0 THEN 1 ELSE 0 END, '{{"code": "131026"}}'),
    ('meta', '{metrics.FAILURES}', CASE WHEN number % 31 = 0 THEN 1 ELSE 0 END, '{{"code": "131047"}}'),
    ('api', '{metrics.memory_of("api-0")}', 95 + pace / 2 + number / 700.0, '{{"host": "{socket.gethostname()}"}}'),
    ('api', '{metrics.cpu_of("api-0")}', pace, '{{"host": "{socket.gethostname()}"}}')
) AS row (process, metric, value, metadata)"""


def main() -> None:
    """Takes all of them."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description="Takes the pictures of the dashboard.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="default: docs/images/dashboard")
    parser.add_argument("--troubles", action="store_true", help="all pages, in each of several troubles")
    chosen = parser.parse_args()
    if chosen.troubles and chosen.folder == FOLDER:
        parser.error("--troubles needs a folder: its pictures are not those of the documentation")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        instances = "1" if chosen.troubles else "2"
        deployment = Deployment(
            Path(home), ENABLE_DASHBOARD="true", ENABLE_WWEBJS="false", API_INSTANCES=instances,
            META_INSTANCES=instances,
        )  # fmt: skip
        try:
            fill(deployment)
            with page_browser() as browser:
                link = dashboard.invite(deployment, "aisha", "administrator")
                dashboard.accept_and_sign_in(browser, link, "aisha")
                if chosen.troubles:
                    take_troubles(browser, deployment, chosen.folder)
                else:
                    take(browser, deployment, PAGES, chosen.folder)
        finally:
            deployment.close()


def fill(deployment: Deployment) -> None:
    """Starts it, sends messages, and invents its past."""
    deployment.run("start", "--multiprocess", "--sandbox")
    for company in COMPANIES:
        deployment.add_demo_bot(company)
    deployment.behave(match="on its way to nobody", error_code=131026)
    for number in range(12):
        text = f"Your order {4100 + number} is on its way{' to nobody' if number % 5 == 0 else ''}."
        deployment.send(COMPANIES[number % len(COMPANIES)], f"6012345{number:04}", text)
    wait_until(lambda: not {"queued", "waiting", "sending"} & deployment.statuses().keys())
    deployment.rows(_PAST)


def take_troubles(browser: PageBrowser, deployment: Deployment, folder: Path) -> None:
    """Takes the pictures of all pages in each trouble."""
    pages = {page.strip("/").replace("/", "-") or "overview": page for page in dashboard.PAGES}
    troubles: Mapping[str, AbstractContextManager[None]] = {
        "many": many_rows(deployment), "api": crashing(deployment, "api-0"),
        "redis": stopped(deployment, "redis"), "postgres": stopped(deployment, "postgres"),
    }  # fmt: skip
    for name, trouble in troubles.items():
        with trouble:
            take(browser, deployment, pages, folder, f"{name}-")


@contextlib.contextmanager
def many_rows(deployment: Deployment) -> Iterator[None]:
    """50 numbers of WhatsApp Web, 10,000 messages that failed, and as many events. They stay."""
    for statement in (dashboard.MANY_NUMBERS, dashboard.MANY_FAILED, dashboard.MANY_EVENTS):
        deployment.rows(statement)
    yield


@contextlib.contextmanager
def stopped(deployment: Deployment, program: str) -> Iterator[None]:
    """A program that an operator stopped."""
    deployment.run("stop", program, "--yes")
    yield
    deployment.run("start", program)


@contextlib.contextmanager
def crashing(deployment: Deployment, process: str) -> Iterator[None]:
    """A process that dies soon after each start."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.5):
            deployment.kill(process)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    time.sleep(CRASHES_SECONDS)
    yield
    ended.set()
    thread.join()
    deployment.run("start", process, check=False)


def take(
    browser: PageBrowser, deployment: Deployment, pages: Mapping[str, str], folder: Path, prefix: str = ""
) -> None:
    """Takes one picture of each page, size and colour scheme."""
    address = f"http://127.0.0.1:{deployment.settings.dashboard_port}/ui"
    for name, page in pages.items():
        for size, is_dark in TROUBLE_LOOKS if prefix else LOOKS:
            browser.set_size(*SIZES[size], is_dark)
            begun = time.monotonic()
            browser.open(address + page)
            browser.find("main h1")
            took = time.monotonic() - begun
            file = folder / f"{prefix}{name}-{size}-{'dark' if is_dark else 'light'}.png"
            file.write_bytes(picture(browser, is_whole=bool(prefix)))
            print(f"{file.stat().st_size >> 10:5} KiB {took:6.1f} s  {file}", flush=True)


def picture(browser: PageBrowser, is_whole: bool) -> bytes:
    """The page as a person sees it, or all of it."""
    options: dict[str, object] = {"format": "png"}
    if is_whole:
        size = browser.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        area = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], MAX_HEIGHT), "scale": 1}
        options |= {"captureBeyondViewport": True, "clip": area}
    return base64.b64decode(browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"])


if __name__ == "__main__":
    main()
