"""A Chromium of the tests' own, for pages that people open."""

import contextlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from bisnesctl.host.browsers import find_chromium, find_driver
from tests.support.waiting import wait_until

_FOCUSED = """
const own = document.activeElement, style = getComputedStyle(own)
const box = own.getBoundingClientRect(), all = [...document.querySelectorAll("*")]
return {
  place: own === document.body ? -1 : all.indexOf(own), text: own.innerText, html: own.outerHTML.slice(0, 120),
  is_seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 && box.width > 0 && box.right > 0,
}"""
_UNREACHED = """
const all = [...document.querySelectorAll("*")]
return all.filter((each, place) => each.matches("a[href], button, input:not([type=hidden]), select, textarea, summary")
  && each.checkVisibility({ visibilityProperty: true }) && !each.closest("details:not([open]) > :not(summary)")
  && !arguments[0].includes(place)).map((each) => each.outerHTML.slice(0, 120))"""
_OVERFLOWING = """
const width = document.documentElement.clientWidth
if (document.documentElement.scrollWidth <= width) return []
return [...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > width + 1)
  .map((each) => each.outerHTML.slice(0, 120)).slice(0, 5)"""


class PageBrowser:
    """A browser window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Loads a page."""
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector, once it is there."""
        wait_until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector))
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def fill(self, **values: str) -> None:
        """Writes into the fields of these names."""
        for name, value in values.items():
            field = self.find(f"[name={name}]:not([type=hidden])")
            field.clear()
            field.send_keys(value)

    def submit(self, selector: str = "main form button") -> None:
        """Presses a button or follows a link, once it is there; an update of the page may replace it meanwhile."""

        def is_pressed() -> bool:
            try:
                self.find(selector).click()
            except StaleElementReferenceException:
                return False
            return True

        wait_until(is_pressed)

    def text(self) -> str:
        """The text of the page; empty while another one loads."""
        return self.text_of("main")

    def text_of(self, selector: str) -> str:
        """The text of an element; empty if it is not there, or not any more."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.driver.execute_script(script, selector))

    def press(self, key: str) -> None:
        """Presses a key where the focus is."""
        ActionChains(self.driver).send_keys(key).perform()

    def focused(self) -> dict[str, Any]:
        """The element that has the focus: its place in the page (-1: none has it), text, and whether a ring is seen."""
        found: dict[str, Any] = self.driver.execute_script(_FOCUSED)
        return found

    def unreached(self, places: Collection[int]) -> list[str]:
        """The links, buttons and fields that are seen and are at none of these places."""
        found: list[str] = self.driver.execute_script(_UNREACHED, list(places))
        return found

    def overflowing(self) -> list[str]:
        """The elements that make the page wider than the screen; none if it is not."""
        found: list[str] = self.driver.execute_script(_OVERFLOWING)
        return found

    def problems(self) -> list[str]:
        """Messages of the console about refused styles and scripts, exceptions, and other sites."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The addresses that were requested since the last call."""
        found = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [each["params"]["request"]["url"] for each in found if each["method"] == "Network.requestWillBeSent"]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]

    def set_size(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the view in CSS pixels, and the wanted colours."""
        metrics: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@contextlib.contextmanager
def page_browser(javascript: bool = True, language: str = "en") -> Iterator[PageBrowser]:
    """A browser with an empty profile."""
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(find_chromium(_path("CHROME_PATH")))
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--user-data-dir={profile}", f"--lang={language}"):  # fmt: skip
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(str(find_driver(_path("CHROMEDRIVER_PATH")))))
        try:
            if not javascript:
                driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
            yield PageBrowser(driver)
        finally:
            driver.quit()


def _path(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None
