"""A rollout that an operator begins, watches, pauses, advances and aborts in a browser."""

from collections.abc import Iterator

import pytest

from tests.support.browser import PageBrowser, page_browser
from tests.support.dashboard import accept_and_sign_in, invite
from tests.support.deployment import Deployment
from tests.support.two_sides import Writers, add_bots, owners, rollout_phase
from tests.support.waiting import wait_until

BOTS = 4
#: Messages a second.
RATE = 12.0
#: Seconds for a command that hands bots over, and starts or stops a side.
COMMAND_SECONDS = 180.0


@pytest.fixture
def deployment(tmp_path) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path, ENABLE_DASHBOARD="true", ENABLE_WWEBJS="false", API_INSTANCES="1", META_INSTANCES="1",
        META_MAX_MESSAGES_PER_SECOND="500", HEARTBEAT_INTERVAL="1000", ROLLOUT_FAILURE_MARGIN="50",
        ROLLOUT_LATENCY_RATIO="100",
    )  # fmt: skip
    try:
        made.run("start", "--legacy", "--sandbox")
        add_bots(made, BOTS)
        yield made
    finally:
        made.close()


@pytest.fixture
def browser(deployment: Deployment) -> Iterator[PageBrowser]:
    """An operator's, with the page of the rollout."""
    with page_browser() as made:
        accept_and_sign_in(made, invite(deployment, "omar", "operator"), "omar")
        made.open(address(deployment))
        yield made


def address(deployment: Deployment) -> str:
    return f"http://127.0.0.1:{deployment.settings.dashboard_port}/ui/rollout"


def do(browser: PageBrowser, deployment: Deployment, action: str, costs: str, **values: str) -> str:
    """Presses a button of the page, reads what that costs, and does it; returns the output. Ends at the page again."""
    browser.open(address(deployment))
    browser.submit(f"a[href$='/do/{action}/rollout']")
    wait_until(lambda: costs in browser.text(), what=browser.text)
    browser.fill(**values)
    browser.submit("button.danger")
    wait_until(
        lambda: "Done." in browser.text() or "It failed" in browser.text(), COMMAND_SECONDS,
        lambda: f"{browser.text()}\n{deployment.logs()}",
    )  # fmt: skip
    output = browser.text()
    assert "Done." in output
    browser.open(address(deployment))
    return output


def cells(browser: PageBrowser, title: str) -> list[str]:
    """The values of a row of the figures, by side."""
    script = """
    const rows = [...document.querySelectorAll("tbody tr")].filter((each) => each.cells[0].innerText === arguments[0])
    return rows.length ? [...rows[0].cells].slice(1).map((each) => each.innerText) : []"""
    return [str(each) for each in browser.driver.execute_script(script, title)]


def test_a_rollout_is_driven_from_the_browser(browser: PageBrowser, deployment: Deployment) -> None:
    assert "no rollout was begun" in browser.text()
    with Writers(deployment, range(BOTS), RATE) as writers:
        wait_until(lambda: len(writers.accepted) > BOTS)

        # Before it begins, the page shows which bots would move, and when.
        browser.submit("a[href$='/do/begin/rollout']")
        wait_until(lambda: "bisnesctl rollout start" in browser.text(), what=browser.text)
        assert all(f"0100-{bot}" in browser.text() or f"0100/{bot}" in browser.text() for bot in range(BOTS))
        do(browser, deployment, "begin", "messages wait", percent="50")
        assert owners(deployment) == {"legacy": 2, "multiprocess": 2}
        wait_until(lambda: "multiprocess serves 2 of them, legacy 2" in browser.text(), what=browser.text)

        # Both sides' figures and the verdict come by themselves.
        browser.driver.execute_script("window.stayed = true")
        wait_until(
            lambda: len(found := cells(browser, "Sent")) == 2 and "0" not in found, COMMAND_SECONDS, browser.text
        )
        wait_until(lambda: browser.text_of(".badge.pass, .badge.hold"), COMMAND_SECONDS, browser.text)
        assert browser.driver.execute_script("return window.stayed")

        do(browser, deployment, "hold", "nothing waits")
        wait_until(lambda: browser.text_of(".badge.paused") == "paused", what=browser.text)
        assert deployment.rows("SELECT paused FROM rollout") == [(True,)]
        do(browser, deployment, "continue", "nothing waits")
        wait_until(lambda: not browser.text_of(".badge.paused"), what=browser.text)

        wait_until(lambda: browser.text_of("a[href$='/do/advance/rollout']"), COMMAND_SECONDS, browser.text)
        do(browser, deployment, "advance", "bot of the next step is handed over")
        assert owners(deployment) == {"multiprocess": BOTS}
        wait_until(lambda: "multiprocess serves 4 of them, legacy 0" in browser.text(), what=browser.text)

        do(browser, deployment, "abort", "is handed back")
        assert rollout_phase(deployment) == "undone"
        assert owners(deployment) == {"legacy": BOTS}
        wait_until(lambda: browser.text_of(".badge.undone") == "undone", what=browser.text)
        wait_until(lambda: browser.text_of("a[href$='/do/begin/rollout']"), what=browser.text)
    assert writers.wrong == []
    trail = deployment.run("audit", "--who", "omar").stdout
    assert all(f"rollout {word}" in trail for word in ("start", "pause", "resume", "advance", "abort"))


def test_steps_that_are_wrong_are_refused_with_what_was_typed(browser: PageBrowser, deployment: Deployment) -> None:
    browser.submit("a[href$='/do/begin-by-itself/rollout']")
    wait_until(lambda: "10%:10m" in (browser.find("[name=steps]").get_attribute("value") or ""))
    browser.fill(steps="--yes")
    browser.submit("button.danger")
    wait_until(lambda: "Nothing was changed" in browser.text(), what=browser.text)
    assert browser.find("[name=steps]").get_attribute("value") == "--yes"
    browser.fill(steps="50%:1m,20%")
    browser.submit("button.danger")
    wait_until(lambda: "do not grow from step to step" in browser.text(), COMMAND_SECONDS, browser.text)
    assert "exit code 2" in browser.text()
    assert rollout_phase(deployment) == ""
