"""Output: the words of others cannot act on the terminal, and no column gets lost in a narrow one."""

import ast
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

import bisnesctl
from bisnesctl.logs.files import LogFile
from bisnesctl.terminal import output, printable, tables
from bisnesctl.terminal.log_view import LogView
from bisnesctl.terminal.output import Column, SafeConsole

HOSTILE = "a\x1b[31mb\x9b2Jc\x7fd\re\nf\tg\u202eh\u2066i\u2028j\x00k[b]l[/b]:100:\\"
UNFIT = {"Cc", "Cs"}
BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ANY = st.text(st.characters(exclude_categories=["Cs"]))


def acts(text: str) -> list[str]:
    """The characters of a text that act on a terminal."""
    return [sign for sign in text if unicodedata.category(sign) in UNFIT | {"Zl", "Zp"} or sign in BIDI]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Everything that was printed, without line ends."""
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, emoji=False, width=200)
    monkeypatch.setattr(output, "out", lambda: console)
    monkeypatch.setattr(output, "err", lambda: console)
    return lambda: file.getvalue().replace("\n", "")


@pytest.mark.parametrize(
    "show",
    [
        output.result,
        output.warn,
        output.fail,
        lambda words: output.say(output.escape(words)),
        lambda words: output.print_json({words: [words]}),
        lambda words: output.show_traceback(ValueError(words)),
        lambda words: output.print_table([Column("x"), Column("y", wraps=True)], [[output.escape(words)] * 2]),
        lambda words: output.out().print(Text(words)),
    ],
)
def test_no_output_acts_on_the_terminal(screen: Callable[[], str], show: Callable[[str], None]) -> None:
    show(HOSTILE)
    assert acts(screen().replace("\t", "")) == []
    assert "[b]l[/b]:100:" in screen()


def test_no_line_of_a_log_hides_what_is_before(tmp_path: Path, screen: Callable[[], str]) -> None:
    path = tmp_path / "api-0.log"
    path.write_bytes(b"the truth\rhidden \x1b[31mred\x1b[0m \x1b[2K\xc2\x9b1A\x08\x7f\n")
    LogView([LogFile("api-0", path, is_error=False)]).show_tail(10)
    assert acts(screen()) == []
    assert screen().startswith(r"the truth\rhidden red \x1b[2K")


@given(ANY)
def test_a_line_is_printable_and_otherwise_unchanged(words: str) -> None:
    assert acts(printable.one_line(words)) == []
    if not acts(words):
        assert printable.one_line(words) == words.replace("\ufeff", r"\ufeff").replace("\ufff9", r"\ufff9").replace(
            "\ufffa", r"\ufffa"
        ).replace("\ufffb", r"\ufffb")


@pytest.mark.parametrize("name", ["Ana 👩‍💻", "علی‌رضا", "דוד\u200f", "A\u00a0B", "全\u3000角", "🏴\U000e0067", "नि‍"])
def test_names_of_people_stay(name: str) -> None:
    assert printable.one_line(name) == name
    assert printable.as_json(name) == f'"{name}"'


@given(st.recursive(ANY, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner), max_leaves=5))
def test_json_means_the_same_to_a_program(value: object) -> None:
    text = printable.as_json(value)
    assert json.loads(text) == value
    assert acts(text.replace("\n", "")) == []


@given(
    st.lists(st.tuples(*[st.text(st.sampled_from("abc x"), max_size=30)] * 4), min_size=1, max_size=4),
    st.integers(20, 200),
)
def test_no_cell_gets_lost_in_a_narrow_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    columns = [Column("name"), Column("count", "right"), Column("more", from_width=90), Column("why", wraps=True)]
    file = io.StringIO()
    tables.show(SafeConsole(file=file, width=width), columns, [[Text(cell) for cell in row] for row in rows])
    shown = "".join(file.getvalue().split())
    for row in rows:
        for cell in row:
            assert all(word in shown for word in cell.split() if len(word) < 10)


def test_a_reason_has_room_or_a_line_of_its_own() -> None:
    columns = [Column("name"), Column("status"), Column("reason", wraps=True)]
    row = [Text("wwebjs-session-0128-2"), Text("starting" * 4), Text("it has not given a heartbeat for a while")]
    file = io.StringIO()
    tables.show(SafeConsole(file=file, width=80), columns, [row])
    assert "\n    reason: it has not given a heartbeat for a while\n" in file.getvalue()


def test_all_output_goes_through_the_consoles() -> None:
    """The consoles are the only place that writes, and `output.escape` the only way into a line."""
    root = Path(bisnesctl.__file__).parent
    allowed = {"terminal/output.py": {"rich.markup"}, "processes/shim.py": {"print"}}
    for path in root.rglob("*.py"):
        name = str(path.relative_to(root))
        for node in ast.walk(ast.parse(path.read_text())):
            found = {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found = {node.func.id}
            forbidden = found & {"rich.markup", "print"} - allowed.get(name, set())
            assert not forbidden, f"{name}, line {node.lineno}: {forbidden}"  # type: ignore[attr-defined]
