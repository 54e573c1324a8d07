"""Takes the pictures of the dashboard's main pages. `scripts/screenshots` runs it.

The deployment is a real one in the sandbox. Its past is invented: figures of a week, and some messages that failed.
"""

import base64
import socket
import sys
import tempfile
from pathlib import Path

from bisnesctl.series import metrics
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
#: Companies with a number each.
COMPANIES = ("0100", "0128", "0211", "0345")
PASSWORD = "correct horse battery"

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
    """Takes all of them into a folder, the only argument."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        deployment = Deployment(
            Path(home), ENABLE_DASHBOARD="true", ENABLE_WWEBJS="false", API_INSTANCES="2", META_INSTANCES="2"
        )
        try:
            fill(deployment)
            with page_browser() as browser:
                sign_in(browser, deployment)
                take(browser, deployment, folder)
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


def sign_in(browser: PageBrowser, deployment: Deployment) -> None:
    """Invites a person and signs in."""
    browser.open(deployment.run("users", "add", "aisha", "--role", "administrator").stdout.strip())
    browser.fill(password=PASSWORD, again=PASSWORD)
    browser.submit()
    browser.fill(name="aisha", password=PASSWORD)
    browser.submit()
    browser.find("header.top nav")


def take(browser: PageBrowser, deployment: Deployment, folder: Path) -> None:
    """Takes one picture of each page, size and colour scheme."""
    address = f"http://127.0.0.1:{deployment.settings.dashboard_port}/ui"
    for name, page in PAGES.items():
        for size, (width, height) in SIZES.items():
            for is_dark in (False, True):
                browser.set_size(width, height, is_dark)
                browser.open(address + page)
                browser.find("main h1")
                shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                file = folder / f"{name}-{size}-{'dark' if is_dark else 'light'}.png"
                file.write_bytes(base64.b64decode(shot["data"]))
                print(f"{file.stat().st_size >> 10:5} KiB  {file}", flush=True)


if __name__ == "__main__":
    main()
