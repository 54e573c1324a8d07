"""A page's events come once and in order, despite any fault of the connection and the page."""

import json
import queue

from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.browser.page_events import Feed

#: The steps: the page emits an event that arrives or not, is reloaded, or answers a request; the connection breaks and
#: is replaced.
STEPS = st.lists(st.sampled_from(["heard", "heard", "unheard", "reload", "answer", "break"]), max_size=40)


class Page:
    """A page that keeps its events, and the events that its session receives."""

    def __init__(self, kept=5000):
        self.events = queue.Queue()
        self.feed = Feed(self.events)
        self.kept, self.told, self.ring, self.life = kept, [], [], 0
        self.questions = []

    def tell(self, heard):
        seq = self.ring[-1]["seq"] + 1 if self.ring else 1
        event = {"boot": f"life {self.life}", "seq": seq, "at": 0.0, "name": "conn.online", "data": len(self.told)}
        self.ring = [*self.ring, event][-self.kept :]
        self.told.append(event)
        if heard and self.feed.take(json.dumps(event)):
            self.ask()

    def heard(self):
        self.tell(True)

    def unheard(self):
        self.tell(False)

    def reload(self):
        self.life, self.ring = self.life + 1, []
        self.tell(True)

    def ask(self):
        self.questions.append(self.feed.position)

    def answer(self):
        if self.questions:
            boot, seq = self.questions.pop(0)
            same = boot == f"life {self.life}"
            self.feed.release([each for each in self.ring if not same or each["seq"] > seq])

    def restore(self):
        """The connection is replaced; a request that was open on the old one is not answered any more."""
        self.questions.clear()
        self.feed.hold()
        self.ask()

    def passed_on(self):
        self.restore()
        self.answer()
        return [self.events.get_nowait() for _ in range(self.events.qsize())]


STEP = {"break": Page.restore} | {name: getattr(Page, name) for name in ("heard", "unheard", "reload", "answer")}


@given(STEPS)
def test_events_come_once_and_in_order_and_none_of_the_current_load_is_lost(steps):
    page = Page()
    for step in steps:
        STEP[step](page)
    events = page.passed_on()
    numbers = [each.data for each in events if each.name == "conn.online"]
    assert numbers == sorted(set(numbers))
    present = [each["data"] for each in page.told if each["boot"] == f"life {page.life}"]
    assert numbers[len(numbers) - len(present) :] == present
    if "reload" not in steps:
        assert len(events) == len(page.told)


@given(STEPS, st.integers(1, 3))
def test_dropped_events_are_reported_as_a_gap(steps, kept):
    page = Page(kept)
    for step in steps:
        STEP[step](page)
    events = page.passed_on()
    heard, missed = len([each for each in events if each.name != "bridge.missed"]), 0
    for each in events:
        if each.name == "bridge.missed":
            missed += each.data["count"]
    if "reload" not in steps:
        assert heard + missed == len(page.told)


def test_the_page_is_not_asked_while_no_event_is_missing():
    page = Page()
    for _ in range(5):
        page.heard()
    page.reload()
    assert page.questions == []
    page.unheard()
    page.heard()
    page.heard()
    assert len(page.questions) == 1
