"""The dashboard of a real deployment in a real browser."""

import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests
from selenium.webdriver.common.keys import Keys

from tests.support import axe
from tests.support.browser import PageBrowser, page_browser
from tests.support.dashboard import PAGES, accept_and_sign_in, invite
from tests.support.deployment import Deployment
from tests.support.waiting import HANG_SECONDS, wait_until

#: The reading pages, and others that show forms, lists and errors.
MORE_PAGES = (
    *PAGES, "/do/restart/api-0", "/do/begin-by-itself/rollout", "/queue?state=failed", "/processes/no-such-process"
)  # fmt: skip
#: Elements that are visited by the keyboard in a page, at most.
MAX_STOPS = 80


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path_factory.mktemp("deployment"), ENABLE_DASHBOARD="true", ENABLE_WWEBJS="false", API_INSTANCES="1",
        META_INSTANCES="1", HEARTBEAT_INTERVAL="1000",
    )  # fmt: skip
    try:
        made.run("start", "--multiprocess", "--sandbox")
        made.add_demo_bot()
        wait_until(lambda: made.status()["dashboard"]["status"] == "healthy")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def address(deployment: Deployment) -> str:
    return f"http://127.0.0.1:{deployment.settings.dashboard_port}/ui"


@pytest.fixture(scope="module")
def browser(deployment: Deployment) -> Iterator[PageBrowser]:
    """An administrator's."""
    with page_browser() as made:
        accept_and_sign_in(made, invite(deployment, "aisha", "administrator"), "aisha")
        yield made


def test_pages_load_nothing_from_elsewhere_and_break_no_rule(browser: PageBrowser, address: str) -> None:
    browser.requests()
    for page in PAGES:
        browser.open(address + page)
        browser.find("main h1")
        ids = browser.driver.execute_script("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(ids) == len(set(ids)), (page, sorted(ids))
    found = [each for each in browser.requests() if not each.startswith(("chrome", "data:"))]
    assert found
    assert {each for each in found if not each.startswith(address)} == set()
    assert browser.problems() == []


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("is_dark", [False, True])
def test_pages_have_no_serious_barrier_and_fit_the_screen(
    browser: PageBrowser, address: str, is_dark: bool, width: int
) -> None:
    try:
        axe.script()
    except axe.NotFetched as error:
        pytest.skip(str(error))
    found = {}
    browser.set_size(width, 900, is_dark)
    try:
        for page in MORE_PAGES:
            browser.open(address + page)
            browser.find("main h1")
            findings = axe.serious_findings(browser)
            if wide := browser.overflowing():
                findings.append(f"wider than the screen: {wide}")
            if findings:
                found[page] = findings
    finally:
        browser.set_size(1280, 900)
    assert found == {}


def test_each_action_is_reached_by_the_keyboard_and_its_focus_is_seen(browser: PageBrowser, address: str) -> None:
    found = {}
    for page in MORE_PAGES:
        browser.open(address + page)
        browser.find("main h1")
        stops: list[dict[str, Any]] = []
        browser.press(Keys.TAB)
        while (stop := browser.focused())["place"] >= 0 and len(stops) < MAX_STOPS:
            stops.append(stop)
            browser.press(Keys.TAB)
        assert stops[0]["text"] == "Skip to the content", page
        unseen = [each["html"] for each in stops if not each["is_seen"]]
        missed = browser.unreached({each["place"] for each in stops}) if len(stops) < MAX_STOPS else []
        if unseen or missed:
            found[page] = {"unseen": unseen, "missed": missed}
    assert found == {}


def test_the_skip_link_leads_to_the_content(browser: PageBrowser, address: str) -> None:
    browser.open(f"{address}/processes")
    browser.press(Keys.TAB)
    browser.press(Keys.ENTER)
    assert browser.driver.execute_script("return document.activeElement.id") == "main"
    browser.press(Keys.TAB)
    assert browser.driver.execute_script("return document.querySelector('main').contains(document.activeElement)")


def test_messages_go_before_pages(deployment: Deployment) -> None:
    dashboard = psutil.Process(deployment.pid("dashboard")).children(recursive=True)[-1]
    threads = [each.id for each in dashboard.threads()]
    assert len(threads) > 1
    assert {os.sched_getscheduler(each) for each in threads} == {os.SCHED_BATCH}
    lower = {os.getpriority(os.PRIO_PROCESS, each) for each in threads}
    assert len(lower) == 1
    assert lower.pop() > os.getpriority(os.PRIO_PROCESS, deployment.pid("meta-worker-1"))


def test_a_process_that_dies_is_seen_at_once_and_without_a_new_page(
    browser: PageBrowser, address: str, deployment: Deployment
) -> None:
    browser.open(f"{address}/processes")
    browser.driver.execute_script("window.stayed = true")
    deployment.kill("events")
    wait_until(lambda: "1 / 1" in browser.text_of("#row-events"))
    assert browser.driver.execute_script("return window.stayed")
    wait_until(lambda: deployment.status()["events"]["status"] == "healthy", what=deployment.logs)


def test_an_action_says_what_it_costs_and_runs_the_command_of_the_tool(
    browser: PageBrowser, address: str, deployment: Deployment
) -> None:
    pid = deployment.pid("events")
    browser.open(f"{address}/processes/events")
    browser.submit("a[href$='/do/restart/events']")
    wait_until(lambda: "bisnesctl restart events" in browser.text())
    assert "events wait a few seconds" in browser.text()
    browser.submit("button.danger")
    wait_until(lambda: "Done." in browser.text())
    assert "events is healthy" in browser.text()
    assert deployment.pid("events") != pid
    audit = deployment.run("audit", "--json").stdout
    assert "aisha (dashboard" in audit


def test_the_dashboard_restarts_itself_and_says_how_that_ended(
    browser: PageBrowser, address: str, deployment: Deployment
) -> None:
    pid = deployment.pid("dashboard")
    browser.open(f"{address}/do/restart/dashboard")
    wait_until(lambda: "its pages load again when it is back" in browser.text())
    browser.submit("button.danger")
    wait_until(lambda: "Done." in browser.text())
    assert deployment.pid("dashboard") != pid
    browser.open(f"{address}/do/stop/dashboard")
    wait_until(lambda: "bisnesctl start dashboard" in browser.text())


def test_a_number_of_instances_is_changed_after_its_costs_were_shown(
    browser: PageBrowser, address: str, deployment: Deployment
) -> None:
    browser.open(f"{address}/processes")
    field = browser.find("#scale-meta-worker")
    field.clear()
    field.send_keys("2")
    browser.submit("form:has(#scale-meta-worker) button")
    wait_until(lambda: "starts meta-worker-2" in browser.text())
    assert "MB are free" in browser.text()
    browser.submit("button.danger")
    wait_until(lambda: "Done." in browser.text())
    assert "meta-worker-2" in deployment.status()
    assert "scale meta-worker=2" in deployment.run("audit").stdout
    deployment.run("scale", "meta-worker=default")


def test_a_viewer_sees_no_action(deployment: Deployment, address: str) -> None:
    with page_browser() as viewer:
        accept_and_sign_in(viewer, invite(deployment, "ben", "viewer"), "ben")
        viewer.open(f"{address}/processes/api-0")
        wait_until(lambda: "api-0" in viewer.text())
        assert "restart" not in viewer.text_of(".actions")
        viewer.open(f"{address}/do/restart/api-0")
        assert "You may not do that." in viewer.text()
        viewer.open(f"{address}/processes")
        assert "Number of instances" not in viewer.text()


def test_reading_pages_work_without_javascript(deployment: Deployment, address: str) -> None:
    with page_browser(javascript=False) as plain:
        accept_and_sign_in(plain, invite(deployment, "carla", "operator"), "carla")
        for page, expected in (("/", "Everything is well"), ("/processes", "meta-worker-1"), ("/numbers", "0100-0")):

            def is_shown(url: str = address + page, words: str = expected) -> bool:
                plain.open(url)
                return words in plain.text()

            wait_until(is_shown, what=plain.text, pause=1.0)


def test_the_language_is_the_browsers_and_can_be_chosen(browser: PageBrowser, address: str) -> None:
    with page_browser(language="es") as other:
        other.open(address)
        assert "Iniciar sesión" in other.text()
    browser.open(f"{address}/processes")
    browser.submit("footer button[lang=es]")
    wait_until(lambda: "Procesos" in browser.text())
    browser.submit("footer button[lang=en]")
    wait_until(lambda: "Processes" in browser.text())


def test_a_stopped_postgresql_is_said_and_the_pages_still_answer(
    browser: PageBrowser, address: str, deployment: Deployment
) -> None:
    deployment.run("stop", "postgres", "--yes")
    try:
        browser.open(f"{address}/")
        wait_until(lambda: "PostgreSQL" in browser.text())
        browser.open(f"{address}/processes")
        wait_until(lambda: "PostgreSQL does not answer" in browser.text())
        assert "api-0" in browser.text()
        answer = requests.get(f"{deployment.api}/health/all", timeout=HANG_SECONDS)
        assert (answer.status_code, answer.json()["source"]) == (200, "local")

        def says(words: str) -> bool:
            browser.open(f"{address}/messages")
            return words in browser.text()

        wait_until(lambda: says("postgres stopped: on purpose by"))  # before that, it was seen to shut down
        assert "bisnesctl start postgres" in browser.text()
        browser.set_size(360, 900)
        for page in PAGES:
            browser.open(address + page)
            browser.find("main h1")
            assert browser.overflowing() == [], page
    finally:
        browser.set_size(1280, 900)
        deployment.run("start", "postgres")
    browser.open(f"{address}/")
    wait_until(lambda: "Everything is well" in browser.text())


def test_a_stopped_redis_is_said(browser: PageBrowser, address: str, deployment: Deployment) -> None:
    deployment.run("stop", "redis", "--yes")
    try:
        browser.open(f"{address}/")
        wait_until(lambda: "on purpose by" in browser.text_of(".troubles"), what=browser.text)
        assert "Everything is well" not in browser.text()
    finally:
        deployment.run("start", "redis")
    wait_until(lambda: "Everything is well" in browser.text(), what=browser.text)


def test_a_chat_is_read_live_and_answered(browser: PageBrowser, address: str, deployment: Deployment) -> None:
    def say(text: str) -> None:
        deployment.run("sandbox", "say", "--company", "0100", "--from", "60123456001", "--name", "Aina", text)

    def sent() -> list[str]:
        return [str(each["text"]) for each in deployment.received() if each["to"] == "60123456001"]

    say("Where is my order?")
    browser.open(f"{address}/chats")
    wait_until(lambda: "Where is my order?" in browser.text())
    browser.open(f"{address}/chats/0100/60123456001")
    wait_until(lambda: "Where is my order?" in browser.text())
    assert "Anything may be sent until" in browser.text()
    browser.fill(text="It is on its way.")
    say("Hello?")
    wait_until(lambda: "Hello?" in browser.text())
    assert browser.find("#text").get_attribute("value") == "It is on its way."
    browser.submit("#answer form button")
    wait_until(lambda: sent() == ["It is on its way."])
    wait_until(lambda: "It is on its way." in browser.text_of(".chat"))
    assert browser.find("#text").get_attribute("value") == ""
    wait_until(lambda: "read" in browser.text_of(".chat .ours .badge"))
    assert "send text" in deployment.run("audit", "--who", "aisha").stdout


def test_both_sides_reply_and_a_template_is_sent_without_javascript(deployment: Deployment, address: str) -> None:
    number = "60123456002"
    chat, customer = f"{address}/chats/0100/{number}", f"{address}/sandbox/customer?number=0100-0&sender={number}"

    def shown(url: str, words: str) -> None:
        def is_shown() -> bool:
            plain.open(url)
            return words in plain.text()

        wait_until(is_shown, what=lambda: plain.text(), pause=1.0)

    with page_browser(javascript=False) as plain:
        accept_and_sign_in(plain, invite(deployment, "emma", "operator"), "emma")
        plain.open(customer)
        plain.fill(text="Where is my order?")
        plain.submit("form[enctype] button")
        shown(chat, "Where is my order?")
        plain.submit(".chat .theirs .reply a")
        wait_until(lambda: "Reply to this message:" in plain.text())
        plain.fill(text="Which one?")
        plain.submit("#answer form button")
        wait_until(lambda: "Where is my order?" in plain.text_of(".chat .ours blockquote"))
        wait_until(lambda: [each["text"] for each in deployment.received() if each["to"] == number] == ["Which one?"])
        shown(customer, "Which one?")
        shown(chat, "Which one?")
        plain.open(f"{chat}/templates?phone=0")
        plain.submit("a[href*='template=order_update&language=en&'], a[href$='template=order_update&language=en']")
        wait_until(lambda: "your order {{2}} is on its way" in plain.text())
        for field, value in (("value.body.1", "Aina"), ("value.body.2", "17")):
            plain.find(f"[name='{field}']").send_keys(value)
        plain.submit("main form[method=post] button[name=preview]")
        wait_until(lambda: "Hello Aina, your order 17 is on its way." in plain.text())
        plain.submit("main form[method=post] button:not([name])")
        wait_until(lambda: "order_update" in plain.text_of(".chat"))
        shown(customer, "order_update")


def test_a_person_who_is_removed_sees_nothing_more(deployment: Deployment, address: str) -> None:
    with page_browser() as other:
        accept_and_sign_in(other, invite(deployment, "dora", "viewer"), "dora")
        other.open(f"{address}/processes")
        deployment.run("users", "remove", "dora")
        wait_until(lambda: "/sign-in" in other.driver.current_url)
