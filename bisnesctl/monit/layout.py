"""The layout and the keys of the live screen."""

from enum import StrEnum

from textual.binding import BindingType

#: Columns from which details stand beside the list.
WIDE_COLUMNS = 100
#: Lines from which the list has the groups' names.
TALL_LINES = 30
#: The line at the bottom, in its order.
HINTS = (
    "/ filter", "s sort", "⏎ details", "w why", "e events", "l logs", "S start", "X stop", "R restart", "u unblock",
    "p pause", "? help", "q quit",
)  # fmt: skip
#: The hints that a narrow screen has, the most useful first.
_FIRST_HINTS = ("q quit", "? help", "⏎ details", "w why", "l logs", "R restart", "X stop", "S start", "/ filter")
#: Space between two hints.
_GAP = "  "


class View(StrEnum):
    """The part of the selected row that is shown: all beside the list, or one in full."""

    SPLIT = "split"
    DESCRIBE = "details"
    WHY = "why"
    EVENTS = "events"
    LOGS = "logs"


def bottom(view: View, subject: str, words: str, width: int) -> str:
    """The line at the bottom. `words`: those of the filter."""
    state = f"[filter {words}]" if words else ""
    if view is View.SPLIT:
        return _GAP.join(filter(None, (state, hints(width - len(state) - len(_GAP) * bool(state)))))
    return _GAP.join(filter(None, ("Esc back", "↑↓ scroll", "q quit", f"{view} of {subject}", state)))


def hints(width: int) -> str:
    """The hints that fit into this width."""
    shown: set[str] = set()
    left = width + len(_GAP)
    for each in dict.fromkeys((*_FIRST_HINTS, *HINTS)):
        left -= len(each) + len(_GAP)
        if left < 0:
            break
        shown.add(each)
    return _GAP.join(each for each in HINTS if each in shown)


CSS = """
#header { height: auto; max-height: 8; }
#filter { display: none; height: 1; border: none; padding: 0; }
#body { height: 1fr; layout: vertical; }
#left { height: auto; max-height: 65%; }
#titles { height: 1; }
#rows { height: 1fr; border: none; padding: 0; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
#rows > .option-list--option { padding: 0; }
#pane { height: 1fr; border-top: solid $primary; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
#text { height: auto; }
#outcome { height: auto; max-height: 6; }
#keys { height: 1; }
.wide #body { layout: horizontal; }
.wide #left { width: 50%; min-width: 60; height: 100%; max-height: 100%; }
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
