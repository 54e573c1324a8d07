"""The simulated page of WhatsApp Web in a real Chromium: what it keeps over a SIGKILL, and how it goes wrong."""

import os
import shutil

import psutil
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from tests.support.sandbox import eventually
from tests.support.web_page import CHAT

NUMBER = "60110000001"
#: Milliseconds that a script of the page may take, less than the 120 seconds in which Selenium expects an answer.
SCRIPT_TIMEOUT_MS = 100_000
#: Sends a text as wa-js does, through the modules of the page.
SEND = """
const [chat, id, body] = arguments;
const { default: Wid } = require('WAWebWid'), { default: MsgKey } = require('WAWebMsgKey');
const key = new MsgKey({ fromMe: true, remote: new Wid(chat), id });
const raw = { id: key, from: require('WAWebUserPrefsMeUser').getMe(), to: new Wid(chat), type: 'chat', body, ack: 0 };
require('WAWebSendMsgChatAction').addAndSendMsgToChat(null, raw);
return String(key);
"""
#: How many messages the profile keeps that are not sent yet.
UNSENT = """
const done = arguments[0];
const opened = indexedDB.open('whatsapp-simulator');
opened.onsuccess = () => {
  const counted = opened.result.transaction('unsent').objectStore('unsent').count();
  counted.onsuccess = () => { opened.result.close(); done(counted.result); };
};
"""
STORED = """
return require('WAWebMsgCollection').MsgCollection.map((each) => [each.body, each.isNewMsg, each.ack > 0]);
"""

#: Finds out for how many milliseconds the page did nothing.
WATCH = """
let last = Date.now();
window.longest = 0;
setInterval(() => { window.longest = Math.max(window.longest, Date.now() - last); last = Date.now(); }, 20);
"""


class Browser:
    """A Chromium with a profile of its own."""

    def __init__(self, sandbox, profile):
        self._url = sandbox.page_url
        self._profile = profile
        self.start()

    def start(self):
        options = webdriver.ChromeOptions()
        options.timeouts = {"script": SCRIPT_TIMEOUT_MS}
        options.binary_location = os.environ.get("CHROME_PATH", "")
        for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        service = Service(os.environ.get("CHROMEDRIVER_PATH") or shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self._process = psutil.Process(service.process.pid)
        self.driver.get(self._url)

    def mode(self):
        """The page's mode, or None while it is not there."""
        return self.driver.execute_script("return window.require?.('WAWebStreamModel').Stream.mode ?? null")

    def reaches(self, mode):
        eventually(lambda: self.mode() == mode)

    def kill(self):
        """SIGKILL the driver and the browser, so that nothing can be written any more."""
        processes = [self._process, *self._process.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)
        for lock in self._profile.glob("Singleton*"):
            lock.unlink()


@pytest.fixture(scope="module")
def browser(sandbox, tmp_path_factory):
    """A browser whose page is linked."""
    browser = Browser(sandbox, tmp_path_factory.mktemp("profile"))
    browser.reaches("QR")
    assert browser.driver.find_element("css selector", "[data-testid=link-device-qr-code][data-ref]")
    sandbox.scan(NUMBER)
    browser.reaches("MAIN")
    yield browser
    browser.kill()


def test_a_restarted_browser_has_its_messages_and_sends_the_unsent_ones(sandbox, browser):
    sent = browser.driver.execute_script(SEND, CHAT, "3EB0000000000000000001", "before")
    eventually(lambda: [each["ack"] for each in sandbox.wa_messages(text="before")] == [3])
    sandbox.wa("offline", number=NUMBER)
    browser.reaches("OFFLINE")
    kept = [browser.driver.execute_script(SEND, CHAT, f"3EB000000000000000001{n}", f"kept {n}") for n in range(3)]
    eventually(lambda: browser.driver.execute_async_script(UNSENT) == 3)
    browser.kill()
    sandbox.wa("offline", number=NUMBER, offline=False)
    (said,) = sandbox.wa_say(NUMBER, text="meanwhile")
    assert [each["key"] for each in sandbox.wa_messages()] == [sent, said]
    browser.start()
    browser.reaches("MAIN")
    eventually(lambda: len(sandbox.wa_messages()) == 5)
    assert [(each["key"], each["arrivals"]) for each in sandbox.wa_sent()] == [(key, 1) for key in (sent, *kept)]
    eventually(lambda: all(acknowledged for *_, acknowledged in browser.driver.execute_script(STORED)))
    assert [each[:2] for each in browser.driver.execute_script(STORED)] == [
        [text, False] for text in ("before", "meanwhile", "kept 0", "kept 1", "kept 2")
    ]
    eventually(lambda: browser.driver.execute_async_script(UNSENT) == 0)


def test_a_customers_message_is_reported_as_new_at_once(sandbox, browser):
    sandbox.wa_say(NUMBER, text="Hi")
    eventually(lambda: ["Hi", True, True] in browser.driver.execute_script(STORED))


def test_a_page_takes_over_from_another_window(sandbox, browser):
    sandbox.wa("conflict", number=NUMBER)
    browser.reaches("CONFLICT")
    browser.driver.execute_script("document.querySelector('[data-testid=use-here]').click()")
    browser.reaches("MAIN")


def test_a_leaking_page_uses_more_memory(sandbox, browser):
    def used():
        return browser.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["backingStorageSize"]

    before = used()
    sandbox.wa("leak", number=NUMBER, mb_per_second=200, limit_mb=40)
    eventually(lambda: used() > before + 30_000_000)


def test_a_hanging_page_blocks_its_thread(sandbox, browser):
    browser.driver.execute_script(WATCH)
    sandbox.wa("hang", number=NUMBER, milliseconds=2000)
    eventually(lambda: browser.driver.execute_script("return window.longest") >= 1900)
    browser.reaches("MAIN")


def test_a_page_crashes_and_is_loaded_again_after_a_logout(sandbox, browser):
    sandbox.wa("crash", number=NUMBER)

    def crashed():
        try:
            browser.mode()
        except WebDriverException as error:
            return "crashed" in str(error.msg)
        return False

    eventually(crashed)
    browser.kill()
    sandbox.wa("logout", number=NUMBER)
    browser.start()
    browser.reaches("QR")
