"""The table of both sides: it fits into 80 columns, and words of others cannot change it."""

import pytest

from bisnesctl.rollout.figures import SideFigures
from bisnesctl.rollout.records import Outcomes
from bisnesctl.terminal import output
from bisnesctl.terminal.figures_view import show_figures

BUSY = SideFigures(
    20, 19, 3, Outcomes(123_456, {"131026": 1200, "[red]x\n": 4}, {-10: 5000, 60: 100}, 120_000),
    Outcomes(7, {"131047": 1}, {0: 7}), 12,
)  # fmt: skip


@pytest.fixture
def screen(monkeypatch, capsys):
    def show(columns, sides):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.out.cache_clear()
        show_figures(sides)
        output.out.cache_clear()
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits(screen, columns):
    lines = screen(columns, {"multiprocess": BUSY, "legacy": SideFigures(0)}).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:3] == ["side", "bots", "up"]
    row = next(line for line in lines if line.startswith("multiprocess"))
    assert row.split()[1:3] == ["19/20", "124663"]
    assert "97.2 %" in row
    assert any("123456" in line for line in lines)


def test_errors_and_probes_are_listed(screen):
    text = screen(80, {"multiprocess": BUSY, "legacy": SideFigures(3)})
    assert "131026 (1200), [red]x\\n (4)" in text
    assert "1 of 8 failed" in text


def test_a_side_without_messages_has_no_figures(screen):
    (_, row) = screen(80, {"legacy": SideFigures(3, 3)}).splitlines()[:2]
    assert row.split() == ["legacy", "3/3", "0", "-", "-", "-", "-", "0"]
