"""The live screen: the list of processes and bots, and what is known about the selected one.

All reading happens on threads (`poller`), which send messages to the screen, so that it answers keys regardless of
what hangs.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.containers import Container, VerticalScroll
from textual.css.query import NoMatches
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from bisnesctl.errors import UsageError
from bisnesctl.logs.records import Record
from bisnesctl.monit import actions, layout, table, text
from bisnesctl.monit.actions import Outcome, Verb
from bisnesctl.monit.dialogs import Help, Question
from bisnesctl.monit.layout import View
from bisnesctl.monit.poller import Poller
from bisnesctl.monit.rows import Row, Sort, matching, ordered, rows_of
from bisnesctl.monit.source import Details, Snapshot
from bisnesctl.terminal import printable

#: Seconds between two reads of the whole, of the details of the selected row, and of its logs.
SNAPSHOT_SECONDS, DETAILS_SECONDS, LOG_SECONDS = 2.0, 4.0, 0.5
#: Seconds without a new snapshot after which the screen says so.
LATE_SECONDS = 10.0
#: Seconds for which the outcome of an action is shown, and a failure, unless Esc removes it.
OUTCOME_SECONDS, FAILURE_SECONDS = 8.0, 30.0
#: Events and records of the log below the details.
_FEW_EVENTS, _FEW_RECORDS = 8, 30


class LogReader(Protocol):
    """The log of a row."""

    names: list[str]

    def read(self) -> list[Record]:
        """All records that are kept, with those that were added."""

    def close(self) -> None:
        """Closes the files."""


class Reader(Protocol):
    """The origin of all that is shown."""

    def snapshot(self) -> Snapshot:
        """The deployment now."""

    def details(self, row: Row) -> Details:
        """The diagnosis and the events of a row."""

    def page(self, row: Row, width: int) -> Text:
        """Everything about a row."""

    def logs(self, row: Row) -> LogReader:
        """The log of a row."""


class Read(Message):
    """A thread has read something, and shows it with `show`."""

    def __init__(self, show: Callable[[], None]) -> None:
        super().__init__()
        self.show = show


class Monit(App[None]):
    """The live screen."""

    ENABLE_COMMAND_PALETTE = False
    CSS = layout.CSS
    BINDINGS = layout.BINDINGS

    def __init__(self, source: Reader, run: Callable[[Sequence[str]], Outcome] = actions.run) -> None:
        super().__init__()
        self._source, self._run_command = source, run
        self._snapshot: Snapshot | None = None
        self._rows: list[Row] = []
        self._selected: Row | None = None
        self._details: Details | None = None
        self._page: tuple[str, Text] | None = None
        self._records: list[Record] | None = None
        self._log_names: list[str] = []
        self._view, self._sort, self._words = View.SPLIT, Sort.NAME, ""
        self._outcome, self._outcome_ends, self._trouble = Text(), 0.0, ""
        self._acting: tuple[str, float] | None = None
        self._feed: tuple[str, LogReader] | None = None
        self._list_width = layout.WIDE_COLUMNS
        self._pollers = {
            "status": Poller(self._read_snapshot, SNAPSHOT_SECONDS, self._failed),
            "details": Poller(self._read_details, DETAILS_SECONDS, self._failed),
            "logs": Poller(self._read_logs, LOG_SECONDS, self._failed),
        }

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static("reading …", id="header", markup=False)
        yield Input(placeholder="words of name, state or reason", id="filter", compact=True)
        with Container(id="body"):
            with Container(id="left"):
                yield Static(id="titles", markup=False)
                yield OptionList(id="rows", markup=False, compact=True)
            with VerticalScroll(id="pane", can_focus=True):
                yield Static(id="text", markup=False)
        yield Static(id="outcome", markup=False)
        yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        """Starts to read."""
        self._list.focus()
        for poller in self._pollers.values():
            poller.start()
        self.set_interval(1, lambda: self._draw(self._show_bottom))

    def on_unmount(self) -> None:
        """Ends all reading."""
        for poller in self._pollers.values():
            poller.stop()

    def on_resize(self, event: events.Resize) -> None:
        """Chooses the layout for the width."""
        self.screen_stack[0].set_class(event.size.width >= layout.WIDE_COLUMNS, "wide")
        self._draw(self._show_bottom)
        self.call_after_refresh(self._draw, self._show_rows)

    @property
    def _list(self) -> OptionList:
        return self.screen_stack[0].query_one("#rows", OptionList)

    @property
    def _pane(self) -> VerticalScroll:
        return self.screen_stack[0].query_one("#pane", VerticalScroll)

    def _static(self, name: str) -> Static:
        return self.screen_stack[0].query_one(f"#{name}", Static)

    # --- Reading, on threads -----------------------------------------------------------------------------------------

    def _read_snapshot(self) -> None:
        found = self._source.snapshot()
        self.post_message(Read(lambda: self._show_snapshot(found)))

    def _read_details(self) -> None:
        row = self._selected
        if row is None:
            return
        if self._view is View.DESCRIBE:
            page = self._source.page(row, self.size.width - 1)
            self.post_message(Read(lambda: self._show_page(row, page)))
        found = self._source.details(row)
        self.post_message(Read(lambda: self._show_details(found)))

    def _read_logs(self) -> None:
        row = self._selected
        if row is None:
            return
        if self._feed is None or self._feed[0] != row.key:
            if self._feed is not None:
                self._feed[1].close()
            self._feed = row.key, self._source.logs(row)
        key, feed = self._feed
        records = feed.read()
        self.post_message(Read(lambda: self._show_records(key, records, feed.names)))

    def _failed(self, reason: str) -> None:
        self.post_message(Read(lambda: self._show_trouble(reason)))

    @on(Read)
    def _show_read(self, message: Read) -> None:
        self._draw(message.show)

    def _draw(self, show: Callable[[], None]) -> None:
        """Draws something, unless the screen is being closed."""
        with contextlib.suppress(NoMatches):
            if self.screen_stack:
                show()

    # --- Showing -----------------------------------------------------------------------------------------------------

    def _show_snapshot(self, found: Snapshot) -> None:
        self._snapshot, self._trouble = found, ""
        self._rows = rows_of(found.overview.processes, found.bots, found.causes)
        self._show_header()
        self._show_rows()

    def _show_details(self, found: Details) -> None:
        if self._selected is not None and found.key == self._selected.key:
            self._details = found
            self._show_pane()

    def _show_page(self, row: Row, page: Text) -> None:
        self._page = row.key, page
        self._show_pane()

    def _show_records(self, key: str, records: list[Record], names: list[str]) -> None:
        if self._selected is not None and key == self._selected.key and records != self._records:
            self._records, self._log_names = records, names
            self._show_pane()

    def _show_trouble(self, reason: str) -> None:
        self._trouble = reason
        self._show_header()

    def _show_header(self) -> None:
        now, lines = time.time(), []
        if self._snapshot is not None:
            lines.append(text.header(self._snapshot, now, self.size.width))
            if now - self._snapshot.at > LATE_SECONDS:
                lines.append(Text(f"! all of this was read {now - self._snapshot.at:.0f} s ago", "yellow"))
        if self._trouble:
            lines.append(Text(f"✗ {printable.one_line(self._trouble)}", "red"))
        self._static("header").update(Text("\n").join(lines or [Text("reading …")]))

    def _show_rows(self) -> None:
        """Draws the list. The selected row stays selected if it moves. Behind a full view it keeps its width."""
        self._follow_list()
        if self._view is View.SPLIT:
            self._list_width = self._list.scrollable_content_region.width or self._list_width
        columns = table.columns_for(self._rows, self._list_width)
        self._static("titles").update(table.title(self._sort, columns))
        shown = ordered(matching(self._rows, self._words), self._sort)
        options: list[Option] = []
        group = ""
        for row in shown:
            if self._sort is Sort.NAME and row.group != group and self.size.height >= layout.TALL_LINES:
                group = row.group
                options.append(Option(Text(group, "dim"), id=f"group {group}", disabled=True))
            options.append(Option(table.line(row, columns), id=row.key))
        is_wide = self.size.width >= layout.WIDE_COLUMNS
        self.screen_stack[0].query_one("#left").styles.height = "100%" if is_wide else len(options) + 1
        self._replace(options)
        self._select({row.key: row for row in shown})

    def _replace(self, options: list[Option]) -> None:
        rows = self._list
        if [each.id for each in rows.options] == [each.id for each in options]:
            for place, each in enumerate(options):
                rows.replace_option_prompt_at_index(place, each.prompt)
            return
        with self.prevent(OptionList.OptionHighlighted):
            rows.clear_options()
            rows.add_options(options)

    def _select(self, shown: dict[str, Row]) -> None:
        """Has the list mark the selected row; if it is gone, the first one is selected."""
        before = self._selected
        key = before.key if before is not None and before.key in shown else next(iter(shown), None)
        if key is None:
            self._choose(None)
            return
        self._choose(shown[key])
        place = self._list.get_option_index(key)
        if self._list.highlighted != place:
            with self.prevent(OptionList.OptionHighlighted):
                self._list.highlighted = place

    def _choose(self, row: Row | None) -> None:
        before, self._selected = self._selected, row
        if (before and before.key) != (row and row.key):
            self._details = self._records = self._page = None
            self._log_names = []
            for name in ("details", "logs"):
                self._pollers[name].wake()
        self._show_pane()

    @on(OptionList.OptionHighlighted)
    def _follow_list(self) -> None:
        """Selects the row that the list marks. A key may come before the list's message about the key before it."""
        place = self._list.highlighted
        key = None if place is None else self._list.get_option_at_index(place).id
        row = next((each for each in self._rows if each.key == key), None)
        if row is not None and (self._selected is None or self._selected.key != key):
            self._choose(row)

    @on(OptionList.OptionSelected)
    def _open(self) -> None:
        self.action_view(View.DESCRIBE)

    def _show_pane(self) -> None:
        row, pane = self._selected, self._pane
        at_end = pane.scroll_offset.y >= pane.max_scroll_y
        self._static("text").update(self._pane_text(row))
        if self._view is View.LOGS and at_end:
            pane.call_after_refresh(pane.scroll_end, animate=False)

    def _pane_text(self, row: Row | None) -> Text:
        if row is None:
            return Text(f"nothing matches {self._words!r}; Esc ends the filter" if self._words else "no process runs")
        match self._view:
            case View.DESCRIBE:
                return self._page[1] if self._page and self._page[0] == row.key else Text("reading …", "dim")
            case View.WHY:
                return text.why(row, self._details)
            case View.EVENTS:
                return text.events(self._details)
            case View.LOGS:
                return text.logs(self._records, self._log_names)
        return Text("\n").join([
            text.summary(row, self._details),
            Text("\nevents", "bold"), text.events(self._details, _FEW_EVENTS),
            Text("\nlogs", "bold"), text.logs(self._records, self._log_names, _FEW_RECORDS),
        ])  # fmt: skip

    def _show_bottom(self) -> None:
        self._show_header()
        line = self._outcome if time.monotonic() < self._outcome_ends else Text()
        if self._acting is not None:
            words, since = self._acting
            line = Text(f"… bisnesctl {words} runs for {time.monotonic() - since:.0f} s", "yellow")
        self._static("outcome").update(line)
        self._static("outcome").display = bool(line)
        keys = layout.bottom(self._view, self._subject, self._words, self.size.width)
        line = Text(printable.one_line(keys), "reverse", no_wrap=True, overflow="ellipsis")
        self._static("keys").update(line)

    @property
    def _subject(self) -> str:
        return self._selected.name if self._selected else "nothing"

    # --- Keys --------------------------------------------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        """Selects the next or the previous row, or scrolls."""
        if self._view is not View.SPLIT:
            self._pane.scroll_relative(y=step, animate=False)
        elif step > 0:
            self._list.action_cursor_down()
        else:
            self._list.action_cursor_up()

    def action_sort(self) -> None:
        """Sorts by the next value."""
        self._sort = self._sort.next
        self._show_rows()

    def action_filter(self) -> None:
        """Opens the line for the filter."""
        self.action_leave()
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    @on(Input.Changed, "#filter")
    def _filter(self, event: Input.Changed) -> None:
        self._words = event.value
        self._show_rows()
        self._show_bottom()

    @on(Input.Submitted, "#filter")
    def _keep_filter(self) -> None:
        self.query_one("#filter", Input).display = bool(self._words)
        self._list.focus()

    def action_leave(self) -> None:
        """Back to the list; there, ends the filter and removes the outcome."""
        if self._view is View.SPLIT:
            box = self.query_one("#filter", Input)
            box.value = ""
            box.display = False
            self._outcome = Text()
        self._look(View.SPLIT)

    def action_view(self, name: str) -> None:
        """Shows one part of the selected row in full; the same key again goes back."""
        self._follow_list()
        if self._selected is not None:
            self._look(View.SPLIT if self._view == name else View(name))

    def _look(self, view: View) -> None:
        self._view = view
        self.screen.set_class(view is not View.SPLIT, "full")
        (self._list if view is View.SPLIT else self._pane).focus()
        self._pane.scroll_home(animate=False)
        if view is View.DESCRIBE:
            self._pollers["details"].wake()
        self._show_pane()
        self._show_bottom()
        if view is View.SPLIT:
            self.call_after_refresh(self._show_rows)
        if view is View.LOGS:
            self._pane.call_after_refresh(self._pane.scroll_end, animate=False)

    def action_help(self) -> None:
        """Shows the keys."""
        self.push_screen(Help())

    # --- Actions -----------------------------------------------------------------------------------------------------

    def action_act(self, name: str) -> None:
        """Asks, then runs the command of an action."""
        self._follow_list()
        try:
            words = self._words_of(Verb(name))
        except UsageError as refusal:
            self._show_outcome(Text(f"! {printable.one_line(str(refusal))}", "yellow"), OUTCOME_SECONDS)
            return
        command = f"bisnesctl {' '.join(words)}"
        question = f"{words[0].capitalize()} everything?" if len(words) == 1 else f"Run this for {self._subject}?"

        def decide(answer: bool | None) -> None:
            if answer:
                self._begin(words)

        self.push_screen(Question(question, command), decide)

    def _words_of(self, verb: Verb) -> tuple[str, ...]:
        found = self._snapshot
        if found is None:
            raise UsageError("wait until the state is read")
        if found.owner:
            raise UsageError(f"read-only: only {found.owner} can {verb} something here")
        if self._acting is not None:
            raise UsageError(f"wait: bisnesctl {self._acting[0]} still runs")
        if found.overview.condition in ("stopped", "died") and verb is Verb.START:
            return ("start",)
        if found.overview.condition != "running" and verb in (Verb.START, Verb.STOP, Verb.RESTART):
            raise UsageError("nothing runs here: the lines at the top say what to type")
        if self._selected is None:
            raise UsageError("select a process or a bot first")
        return actions.command_for(verb, self._selected)

    def _begin(self, words: tuple[str, ...]) -> None:
        self._acting = " ".join(words), time.monotonic()
        threading.Thread(target=self._act, args=(words,), daemon=True).start()
        self._show_bottom()

    def _act(self, words: tuple[str, ...]) -> None:
        try:
            outcome = self._run_command(words)
        except OSError as error:
            outcome = Outcome(words, 1, str(error))
        self.post_message(Read(lambda: self._end(outcome)))

    def _end(self, outcome: Outcome) -> None:
        self._acting = None
        self._show_outcome(text.outcome(outcome), OUTCOME_SECONDS if outcome.ok else FAILURE_SECONDS)
        for poller in self._pollers.values():
            poller.wake()

    def _show_outcome(self, line: Text, seconds: float) -> None:
        self._outcome, self._outcome_ends = line, time.monotonic() + seconds
        self._show_bottom()
