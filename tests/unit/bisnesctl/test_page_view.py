"""The pages of `bisnesctl describe` on the screen."""

import io

import pytest

from bisnesctl.terminal import output, page_view
from bisnesctl.terminal.output import SafeConsole

VARIABLES = {"API_PORT": "3000", "ENCRYPTION_KEY": "***", "EDITOR": "vi", "TERM": "xterm"}


@pytest.mark.parametrize("every", [False, True])
def test_the_environment_is_shown_in_part_or_in_full(monkeypatch: pytest.MonkeyPatch, every: bool) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, emoji=False, width=80)
    monkeypatch.setattr(output, "out", lambda: console)
    page_view._environment(VARIABLES, every)
    shown = file.getvalue()
    assert "API_PORT=3000" in shown
    assert "ENCRYPTION_KEY=***" in shown
    assert ("EDITOR=vi" in shown, "TERM=xterm" in shown) == (every, every)
    assert ("and 2 others (--env shows all)" in shown) is not every
