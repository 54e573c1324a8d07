"""The live screen with keys as an operator types them, in 80x24 and 200x50, with a source that each test decides."""

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.text import Text
from textual import events
from textual.geometry import Size

from bisnesctl.bots.store import Bot
from bisnesctl.database.event_log import EventLog, LoggedEvent
from bisnesctl.diagnosis.chain import Diagnosis, Link, State
from bisnesctl.logs.files import LogFile
from bisnesctl.logs.records import Record
from bisnesctl.monit import app as monit_app
from bisnesctl.monit import layout
from bisnesctl.monit.actions import Outcome
from bisnesctl.monit.app import Monit
from bisnesctl.monit.source import Details, Snapshot
from bisnesctl.views.machine import Machine
from bisnesctl.views.overview import Overview, ProcessRow
from tests.support.waiting import Patience

MB = 1 << 20
MACHINE = Machine("web", 9e5, (1.0, 2.0, 3.0), 2, 3 << 30, 8 << 30, [])
API = ProcessRow("api-0", "api", "healthy", 11, 7300.0, 1.0, 300 * MB, 0, "", "api", memory_limit_bytes=2048 * MB)
API_1 = replace(API, name="api-1", status="failed", pid=None, cpu_percent=None, memory_bytes=None, restarts=12,
                recent_restarts=3, reason="[red]it was killed[/] \x1b[2J", state="exited")  # fmt: skip
WORKER = replace(API, name="meta-worker-1", program="meta-worker", kind="meta", cpu_percent=80.0, memory_bytes=90 * MB,
                 waiting=7)  # fmt: skip
SESSION = replace(API, name="wwebjs-session-0128-2", program="wwebjs-session", kind="sessions", session="WORKING",
                  memory_bytes=700 * MB, waiting=0)  # fmt: skip
OVERVIEW = Overview("/srv/var", "multiprocess", False, 1e9, 7, "running", "bisnesctl start --multiprocess",
                    [WORKER, API, API_1, SESSION], [], [], "0.1.0", MACHINE, 0.5, 0.5, True)  # fmt: skip
AWAY = "PostgreSQL at 127.0.0.1 does not answer"


def bot(company="0128", phone=0, process="meta", **changes):
    return replace(
        Bot(company, phone, "meta_direct", process, "active", None, None, 3, None, None, None, None, None, "ok", None,
            [], None, None, None, None), **changes)  # fmt: skip


class Screen:
    """A source and a runner of commands, as the screen takes them."""

    def __init__(self, overview=OVERVIEW, bots=(), owner=""):
        self.overview, self.bots, self.owner = overview, list(bots), owner
        self.ran = []
        self.outcome = 0, "restarted"
        self.fails, self.stalled = threading.Event(), threading.Event()
        self.go = threading.Event()

    def snapshot(self):
        if self.fails.is_set():
            raise OSError("[b]no more files")
        if self.stalled.is_set():
            self.go.wait(60)
        return Snapshot(self.overview, self.bots, [], self.owner, time.time(), time.time())

    def details(self, row):
        links = [Link("guard", State.OK, "it is on duty"), Link(row.name, State.BLOCKS, f"trouble of {row.name}", "",
                                                                "bisnesctl restart api-1")]  # fmt: skip
        events = [LoggedEvent(1e9, "api", "process_start", "info", {"instance": row.name})]
        return Details(row.key, Diagnosis(row.name, "it runs", "it does not", links), EventLog(events))

    def page(self, row, width):
        return Text(f"page of {row.name}")

    def logs(self, row):
        return Log(row.name)

    def run(self, words):
        self.ran.append(tuple(words))
        return Outcome(tuple(words), *self.outcome)


class Log:
    def __init__(self, name):
        self.names = [name]
        self.texts = [f"[bold]line of {name}[/]"]

    def read(self):
        file = LogFile(self.names[0], Path("x.log"), is_error=False)
        return [Record(file, 1e9, 20, each) for each in self.texts]

    def close(self):
        pass


def drawn(app):
    """The screen as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def shows(app, pilot, *texts):
    """Waits until the screen has these texts, however their lines are broken."""
    patience = Patience(20)
    while not all(text in " ".join(drawn(app).split()) for text in texts):
        assert not patience.is_over(), f"not all of {texts} in:\n{drawn(app)}"
        await pilot.pause(0.05)


def play(source, scene, size=(80, 24), first="web"):
    """Runs the screen while `scene` types and looks. `first`: the text with which it begins."""

    async def run():
        app = Monit(source, source.run)
        async with app.run_test(size=size) as pilot:
            await shows(app, pilot, first)
            await scene(app, pilot)

    asyncio.run(run())


@pytest.mark.parametrize("size", [(80, 24), (99, 30), (100, 30), (200, 50)])
def test_everything_that_matters_fits(size):
    async def scene(app, pilot):
        await pilot.press("down")
        await shows(app, pilot, "✓ api-0", "✗ api-1", "failed", "3/12", "300 MB", "80%", "wwebjs-session-0128-2",
                    "0128-0", "it does not", "trouble of api-1", "bisnesctl restart api-1")  # fmt: skip
        assert max(map(len, drawn(app).splitlines())) <= size[0]

    play(Screen(bots=[bot()]), scene, size)


def test_a_narrow_screen_has_whole_names_and_hints():
    async def scene(app, pilot):
        await shows(app, pilot, "✓ api-0 ", "✗ api-1 ", "wwebjs-session-0128-2 healthy", "trouble of api-0")
        assert drawn(app).splitlines()[-1].split("  ") == ["⏎ details", "w why", "l logs", "? help", "q quit"]

    play(Screen(), scene, (40, 20), "multiprocess")


def test_a_wide_screen_shows_limits_and_reasons_in_the_list_and_details_beside_it():
    async def scene(app, pilot):
        await shows(app, pilot, "300 MB/2.0 GB", "trouble of api-0")
        row = next(line for line in drawn(app).splitlines() if line.startswith("✗ api-1"))
        assert "[red]it was killed" in row.partition("│")[0]
        assert abs(row.index("│") - 100) <= 1

    play(Screen(), scene, (200, 50))


def test_twelve_processes_fit_into_24_lines_while_the_end_of_an_action_is_shown():
    processes = [replace(API, name=f"api-{number}") for number in range(12)]

    async def scene(app, pilot):
        await shows(app, pilot, "trouble of api-0", *(f"✓ api-{number} " for number in range(12)))
        await pilot.press("R", "y")
        await shows(app, pilot, "✓ bisnesctl restart api-0 --yes: restarted", "wanted", "✓ api-10 ")

    play(Screen(replace(OVERVIEW, processes=processes)), scene)


def test_the_end_of_an_action_vanishes_by_itself(monkeypatch):
    monkeypatch.setattr(monit_app, "OUTCOME_SECONDS", 1.5)

    async def scene(app, pilot):
        await pilot.press("R", "y")
        await shows(app, pilot, "✓ bisnesctl restart api-0")
        patience = Patience(20)
        while "✓ bisnesctl restart api-0" in drawn(app):
            assert not patience.is_over(), drawn(app)
            await pilot.pause(0.05)

    play(Screen(), scene)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_the_list_is_whole_at_once_after_a_full_view(size, monkeypatch):
    monkeypatch.setattr(monit_app, "SNAPSHOT_SECONDS", 0.1)
    source = Screen()

    async def scene(app, pilot):
        await shows(app, pilot, "trouble of api-0")
        row = "✓ wwebjs-session-0128-2 healthy    2h 1m     0/0   1%  700 MB/2.0 GB     0"
        assert row in drawn(app)
        await pilot.press("e")
        await shows(app, pilot, "Esc back")
        source.overview = replace(OVERVIEW, home="/srv/drawn-behind")
        await shows(app, pilot, "/srv/drawn-behind")  # the hidden list is drawn too
        source.stalled.set()  # nothing is read any more
        try:
            await pilot.pause(0.2)
            await pilot.press("escape")
            await pilot.pause()
            assert row in drawn(app)
        finally:
            source.go.set()

    play(source, scene, size)


@pytest.mark.parametrize("width", range(20, 160, 7))
def test_hints_are_whole_and_end_with_how_to_quit(width):
    shown = layout.bottom(layout.View.SPLIT, "api-0", "", width)
    assert len(shown) <= width
    assert set(shown.split("  ")) <= set(layout.HINTS)
    assert shown.endswith("? help  q quit")


def test_words_of_others_are_shown_as_they_are():
    async def scene(app, pilot):
        await pilot.press("down")
        await shows(app, pilot, r"[red]it was killed[/] \x1b[2J")
        await pilot.press("l")
        await shows(app, pilot, "[bold]line of api-1[/]")

    play(Screen(), scene)


def test_arrows_and_letters_select_across_groups():
    async def scene(app, pilot):
        await shows(app, pilot, "trouble of api-0")
        await pilot.press("j")
        await shows(app, pilot, "trouble of api-1")
        await pilot.press("down")
        await shows(app, pilot, "trouble of wwebjs-session-0128-2")
        await pilot.press("k", "up")
        await shows(app, pilot, "trouble of api-0")

    play(Screen(), scene)


def test_the_selected_row_stays_selected_while_rows_move():
    source = Screen()

    async def scene(app, pilot):
        await pilot.press("j")
        await shows(app, pilot, "trouble of api-1")
        source.overview = replace(OVERVIEW, processes=[WORKER, API_1, replace(API, name="api-00"), SESSION])
        await shows(app, pilot, "api-00", "trouble of api-1")

    play(source, scene)


def test_the_filter_keeps_rows_with_all_words():
    async def scene(app, pilot):
        await pilot.press("slash", *"api failed", "enter")
        await shows(app, pilot, "trouble of api-1")
        assert "meta-worker-1" not in drawn(app)
        await pilot.press("escape")
        await shows(app, pilot, "meta-worker-1", "api-0")

    play(Screen(), scene)


@pytest.mark.parametrize(
    ("presses", "first"),
    [(1, "meta-worker-1"), (2, "wwebjs-session-0128-2"), (3, "api-1"), (4, "meta-worker-1"), (5, "api-0")],
)
def test_each_order_has_its_largest_first(presses, first):
    async def scene(app, pilot):
        await pilot.press(*"s" * presses)
        lines = drawn(app).splitlines()
        rows = [line for line in lines if line[:2] in ("✓ ", "✗ ", "· ", "! ")]
        assert rows[0].split()[1] == first

    play(Screen(), scene)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("enter", "page of api-0"),
        ("w", "✓ guard it is on duty"),
        ("e", "info"),
        ("l", "line of api-0"),
        ("question_mark", "start, stop, restart the process"),
    ],
)
def test_each_view_opens_and_closes(key, text):
    async def scene(app, pilot):
        await shows(app, pilot, "trouble of api-0")
        await pilot.press(key)
        await shows(app, pilot, text)
        await pilot.press("escape")
        await shows(app, pilot, "meta-worker-1", "trouble of api-0")

    play(Screen(), scene)


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        (["S"], "start api-0"),
        (["X"], "stop api-0 --yes"),
        (["R"], "restart api-0 --yes"),
        (["j", "j", "u"], "bots unblock 0128 2"),
        (["j", "j", "p"], "queue pause 0128/2 --yes"),
        (["end", "p"], "queue resume 0128/0 --yes"),
    ],
)
def test_an_action_runs_its_command_once_it_is_confirmed(keys, command):
    source = Screen(bots=[bot(paused={"by": "ana", "reason": None, "since": "", "until": None})])

    async def scene(app, pilot):
        await shows(app, pilot, "paused")
        await pilot.press(*keys)
        await shows(app, pilot, f"bisnesctl {command}", "y yes")
        assert source.ran == []
        await pilot.press("y")
        await shows(app, pilot, f"✓ bisnesctl {command}", "restarted")
        assert source.ran == [tuple(command.split())]

    play(source, scene)


def test_an_action_is_about_the_row_that_is_marked_however_fast_the_keys_are():
    source = Screen()

    async def scene(app, pilot):
        app._list.action_cursor_down()
        app.action_act("stop")  # before the list has reported that another row is marked
        await shows(app, pilot, "bisnesctl stop api-1 --yes")

    play(source, scene)


@pytest.mark.parametrize("key", ["n", "escape", "enter", "q"])
def test_an_action_that_is_not_confirmed_does_not_run(key):
    source = Screen()

    async def scene(app, pilot):
        await pilot.press("X")
        await shows(app, pilot, "y yes")
        await pilot.press(key)
        await shows(app, pilot, "trouble of api-0")
        assert "y yes" not in drawn(app)
        assert source.ran == []

    play(source, scene)


def test_a_failed_action_shows_its_error_and_exit_code():
    source = Screen()
    source.outcome = 6, "error: another command is running here"

    async def scene(app, pilot):
        await pilot.press("R", "y")
        await shows(app, pilot, "✗ bisnesctl restart api-0 --yes (exit code 6)", "another command is running")

    play(source, scene)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(["p"], "api-0 is no bot"), (["end", "R"], "no process of its own"), (["end", "u"], "no session")],
)
def test_an_action_that_a_row_lacks_says_so(keys, reason):
    async def scene(app, pilot):
        await shows(app, pilot, "0128-0")
        await pilot.press(*keys)
        await shows(app, pilot, reason)

    play(Screen(bots=[bot()]), scene)


def test_another_user_only_looks():
    source = Screen(owner="ana")

    async def scene(app, pilot):
        await shows(app, pilot, "read-only: the deployment belongs to ana")
        await pilot.press("X")
        await shows(app, pilot, "only ana can stop")
        await pilot.press("y")
        assert source.ran == []

    play(source, scene)


def test_without_the_database_processes_and_the_last_bots_stay():
    source = Screen(overview=replace(OVERVIEW, database_unavailable=AWAY), bots=[bot()])

    async def scene(app, pilot):
        await shows(app, pilot, f"PostgreSQL was not read: {AWAY}", "api-0", "0128-0", "trouble of api-0")

    play(source, scene)


@pytest.mark.parametrize("condition", ["stopped", "died"])
def test_without_supervisord_the_screen_says_what_to_type_and_starts_it(condition):
    source = Screen(overview=replace(OVERVIEW, condition=condition, processes=[]))

    async def scene(app, pilot):
        await shows(app, pilot, "S starts it: bisnesctl start --multiprocess")
        await pilot.press("S", "y")
        await shows(app, pilot, "✓ bisnesctl start")
        assert source.ran == [("start",)]

    play(source, scene)


@pytest.mark.parametrize("condition", ["new", "silent", "stopping"])
def test_what_cannot_be_started_is_not_started(condition):
    source = Screen(overview=replace(OVERVIEW, condition=condition, processes=[]))

    async def scene(app, pilot):
        await pilot.press("S", "y")
        await shows(app, pilot, "the lines at the top say what to type")
        assert source.ran == []

    play(source, scene)


def test_keys_work_while_nothing_can_be_read():
    source = Screen()

    async def scene(app, pilot):
        await shows(app, pilot, "trouble of api-0")
        source.stalled.set()
        try:
            await pilot.press("j")
            await shows(app, pilot, "trouble of api-1")
            await pilot.press("q")
        finally:
            source.go.set()

    play(source, scene)


def test_an_error_of_reading_is_shown_and_the_next_read_goes_on():
    source = Screen()

    async def scene(app, pilot):
        source.fails.set()
        await shows(app, pilot, "✗ [b]no more files")
        source.fails.clear()
        source.overview = replace(OVERVIEW, home="/srv/other")
        await shows(app, pilot, "/srv/other")
        assert "no more files" not in drawn(app)

    play(source, scene)


def test_a_screen_that_is_being_closed_is_not_drawn(monkeypatch):
    async def scene(app, pilot):
        await app.screen_stack[0].remove_children()
        app.on_resize(events.Resize(Size(90, 30), Size(90, 30)))
        await asyncio.sleep(1.2)  # the lines at the bottom are drawn once a second
        await pilot.pause()

    play(Screen(), scene)
