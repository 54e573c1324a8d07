"""The dialogs of the live screen: a question before an action, and the keys."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from bisnesctl.terminal import printable

KEYS = (
    ("↑ ↓ j k", "select; in a full view, scroll"),
    ("/", "filter by words of name, state or reason; Esc ends it"),
    ("s", "sort by name, CPU, memory, restarts, waiting"),
    ("Enter", "all details, as `bisnesctl describe` shows them"),
    ("w", "why it is as it is: the whole chain"),
    ("e", "its events"),
    ("l", "its logs, followed; scroll up to hold them"),
    ("Esc", "back to the list"),
    ("S X R", "start, stop, restart the process (asks first)"),
    ("u", "unblock the WhatsApp Web session (asks first)"),
    ("p", "pause or resume the bot (asks first)"),
    ("q", "quit; nothing is stopped"),
)
SIGNS = "✓ healthy  · stopped on purpose  ! look at it  ✗ does not work"


class Question(ModalScreen[bool]):
    """Asks whether to do something. Only `y` is a yes."""

    BINDINGS: ClassVar[list[BindingType]] = [("y", "answer(True)"), ("n,escape,q,enter", "answer(False)")]
    DEFAULT_CSS = "Question { align: center middle; } Question Static { width: auto; max-width: 76; height: auto; " \
        "border: round $warning; padding: 0 1; }"  # fmt: skip

    def __init__(self, question: str, command: str) -> None:
        super().__init__()
        self.text = Text.assemble(
            (printable.one_line(question), "bold"), "\n", printable.one_line(command), "\n\n",
            ("y", "bold"), " yes   ", ("n", "bold"), " no",
        )  # fmt: skip

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(self.text, markup=False)

    def action_answer(self, answer: bool) -> None:
        """Ends the dialog."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """The keys and the signs."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark,enter", "app.pop_screen")]
    DEFAULT_CSS = "Help { align: center middle; } Help VerticalScroll { width: 76; max-width: 100%; height: auto; " \
        "max-height: 100%; border: round $primary; padding: 0 1; } Help Static { height: auto; }"  # fmt: skip

    def compose(self) -> ComposeResult:
        """The table of keys."""
        lines = [Text.assemble((f"{keys:<9}", "bold"), meaning) for keys, meaning in KEYS]
        with VerticalScroll():
            yield Static(Text("\n").join([*lines, Text(), Text(SIGNS), Text("Esc closes this.", "dim")]), markup=False)
