"""The layout and the keys of the live screen."""

from enum import StrEnum

from textual.binding import BindingType

#: Columns from which details stand beside the list.
WIDE_COLUMNS = 100
#: The line at the bottom.
KEYS = "/ filter  s sort  ⏎ details  w why  e events  l logs  SXRup act  ? help  q quit"


class View(StrEnum):
    """The part of the selected row that is shown: all beside the list, or one in full."""

    SPLIT = "split"
    DESCRIBE = "details"
    WHY = "why"
    EVENTS = "events"
    LOGS = "logs"


CSS = """
#header { height: auto; max-height: 8; }
#filter { display: none; height: 1; border: none; padding: 0; }
#body { height: 1fr; layout: vertical; }
#left { height: 1fr; }
#titles { height: 1; }
#rows { height: 1fr; border: none; padding: 0; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
#rows > .option-list--option { padding: 0; }
#pane { height: 1fr; border-top: solid $primary; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
#text { height: auto; }
#outcome { height: auto; max-height: 6; }
#keys { height: 1; }
.wide #body { layout: horizontal; }
.wide #left { width: 63; height: 100%; }
.wide #pane { width: 1fr; height: 100%; border-top: none; border-left: solid $primary; padding: 0 0 0 1; }
.full #left { display: none; }
.full #pane { border-top: solid $primary; border-left: none; padding: 0; }
"""
BINDINGS: list[BindingType] = [
    ("j", "move(1)"),
    ("k", "move(-1)"),
    ("slash", "filter"),
    ("s", "sort"),
    ("enter", "view('details')"),
    ("w", "view('why')"),
    ("e", "view('events')"),
    ("l", "view('logs')"),
    ("escape", "leave"),
    ("S", "act('start')"),
    ("X", "act('stop')"),
    ("R", "act('restart')"),
    ("u", "act('unblock')"),
    ("p", "act('pause')"),
    ("question_mark", "help"),
    ("q,ctrl+c", "quit"),
]
