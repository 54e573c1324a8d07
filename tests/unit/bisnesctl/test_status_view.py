"""`bisnesctl status` in terminals of 80, 120 and 200 columns: nothing that matters is lost."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.errors import UsageError
from bisnesctl.processes.topology import Kind
from bisnesctl.terminal import output, status_view
from bisnesctl.terminal.output import SafeConsole
from bisnesctl.views.drift import Drift
from bisnesctl.views.machine import DiskUse, Machine
from bisnesctl.views.overview import Overview, ProcessRow

MB = 1 << 20
HEALTHY = ProcessRow("api-0", "api", "healthy", 4321, 7300.0, 1.0, 116 * MB, 0, "", "api",
                     memory_limit_bytes=2048 * MB, release="0.1.0")  # fmt: skip
FAILING = replace(HEALTHY, name="api-1", status="failing", pid=None, uptime_seconds=None, cpu_percent=None,
                  memory_bytes=None, restarts=4, recent_restarts=3, state="exited",
                  reason="restarting in 3 s: it was killed (attempt 2 of 10); last end at 2026-01-31 08:30:00: "
                         "terminated by SIGKILL")  # fmt: skip
WORKER = replace(HEALTHY, name="meta-worker-1", program="meta-worker", kind="meta", waiting=12, oldest_seconds=185.0)
MACHINE = Machine("web", 9e5, (1.0, 2.0, 3.0), 2, 3 << 30, 8 << 30, [DiskUse("/", 9 << 30, 40 << 30, 9e5, None)])
STATUS = Overview("/srv/var", "multiprocess", False, 1e9, 7, "running", "bisnesctl start --multiprocess", [], [], [],
                  "0.1.0 (9757afe4be)", MACHINE, 0.5, None, False)  # fmt: skip


def session(index: int, **changes: object) -> ProcessRow:
    row = replace(HEALTHY, name=f"wwebjs-session-0128-{index}", program="wwebjs-session", kind="sessions", waiting=0,
                  session="WORKING", memory_limit_bytes=None)  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The status in a terminal of a width."""

    def show(found: Overview, width: int, columns: str | None = None, every: bool = False) -> str:
        file = io.StringIO()
        console = SafeConsole(file=file, highlight=False, emoji=False, width=width)
        monkeypatch.setattr(output, "out", lambda: console)
        status_view.show(found, status_view.columns_named(columns) if columns else None, every)
        return file.getvalue()

    return show


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_width_loses_what_matters(screen: Callable[..., str], width: int) -> None:
    shown = screen(replace(STATUS, processes=[HEALTHY, FAILING, WORKER, session(2, status="blocked", reason="banned")]),
                   width)  # fmt: skip
    assert max(map(len, shown.splitlines())) <= width
    for name in ("api-0", "api-1", "meta-worker-1", "wwebjs-session-0128-2"):
        assert name in shown
    assert "terminated by SIGKILL" in words(shown)
    assert "3/4" in shown
    assert "exited" in shown
    assert "12" in shown
    assert "3m 5s" in shown
    assert "banned" in shown


@pytest.mark.parametrize("kind", Kind)
def test_programs_of_each_kind_are_shown(screen: Callable[..., str], kind: Kind) -> None:
    row = replace(HEALTHY, name="the-row", program="the-program", kind=kind.value)
    assert "the-row" in screen(replace(STATUS, processes=[row, WORKER]), 120)


def test_a_wide_terminal_has_the_reason_beside_its_row(screen: Callable[..., str]) -> None:
    shown = screen(replace(STATUS, processes=[HEALTHY, FAILING]), 200)
    assert any(line.startswith("api-1") and "restarting in 3 s" in line for line in shown.splitlines())
    assert "wanted" in shown
    assert "116/2048 MB" in shown


def test_a_narrow_terminal_has_the_reason_below_its_row(screen: Callable[..., str]) -> None:
    lines = screen(replace(STATUS, processes=[HEALTHY, FAILING]), 80).splitlines()
    row = next(place for place, line in enumerate(lines) if line.startswith("api-1"))
    assert lines[row + 1].strip() == "wanted running, state exited"
    assert lines[row + 2].startswith("    restarting in 3 s")


def test_fifty_sessions_stay_readable(screen: Callable[..., str]) -> None:
    rows = [session(index) for index in range(47)]
    rows += [session(47, status="blocked", reason="banned"), session(48, waiting=9, oldest_seconds=60.0),
             session(49, recent_restarts=2, restarts=2)]  # fmt: skip
    shown = screen(replace(STATUS, processes=rows), 80)
    assert "47 sessions healthy" in shown
    assert all(f"0128-{index} " in shown for index in (47, 48, 49))
    assert "0128-12 " not in shown
    assert len(shown.splitlines()) < 24
    assert screen(replace(STATUS, processes=rows), 80, every=True).count("wwebjs-session-") == 50


@pytest.mark.parametrize("width", [160, 200])
def test_a_wide_terminal_shows_the_state_and_the_phone_of_sessions(screen: Callable[..., str], width: int) -> None:
    rows = [HEALTHY, FAILING, WORKER, session(1, linked_number="60123456789", waiting=1000, restarts=12),
            session(2, session="SCAN_QR_CODE", status="degraded", reason="no phone is linked to it")]  # fmt: skip
    lines = screen(replace(STATUS, processes=rows), width).splitlines()
    found = {line.split()[0]: line for line in lines if line.startswith("wwebjs-session-")}
    assert "WORKING 60123456789" in found["wwebjs-session-0128-1"]
    assert "SCAN_QR_CODE " in found["wwebjs-session-0128-2"]
    assert max(map(len, lines)) <= width


def test_old_rows_are_named_only_if_their_deletion_is_late(screen: Callable[..., str]) -> None:
    late = "last deleted 5h 0m ago: 10m 0s ago it removed nothing; it failed for commands: why"
    assert f"old rows {late} (bisnesctl clean-up)" in words(screen(replace(STATUS, retention_late=late), 80))
    assert "old rows" not in screen(STATUS, 200)


def test_sessions_without_a_phone_are_not_called_working(screen: Callable[..., str]) -> None:
    rows = [session(index, session="SCAN_QR_CODE" if index < 20 else "WORKING") for index in range(50)]
    shown = screen(replace(STATUS, processes=rows), 120)
    assert "20 sessions healthy, SCAN_QR_CODE" in shown
    assert "30 sessions healthy (" in shown


def test_the_header_has_the_release_the_machine_and_the_drift(screen: Callable[..., str]) -> None:
    drift = Drift(["api-0"], "META_ATTEMPTS", "3", "5", "api-0 runs with META_ATTEMPTS=3, .env says 5",
                  "bisnesctl restart api")  # fmt: skip
    shown = words(screen(replace(STATUS, processes=[HEALTHY], drift=[drift], guard_seen_seconds=90.0), 80))
    for text in (
        "release 0.1.0 (9757afe4be)",
        "host web",
        "load 1.0 2.0 3.0 of 2 processors",
        "memory 3.0 GB of 8.0 GB",
        "disk / 9.0 GB free of 40.0 GB, full in about 10d 10h",
        "guard seen 1m 30s ago",
        "drift: api-0 runs with META_ATTEMPTS=3, .env says 5 (bisnesctl restart api)",
    ):
        assert text in shown
    assert "alerts" not in shown
    assert "alerts never seen" in words(screen(replace(STATUS, processes=[HEALTHY], has_alerts=True), 80))


@pytest.mark.parametrize(
    ("state", "seen", "is_silent"),
    [("running", 2.0, False), ("stopped", 2.0, True), ("fatal", 2.0, True), ("running", 300.0, True)],
)
def test_the_header_says_if_nothing_sends_alerts(
    screen: Callable[..., str], state: str, seen: float, is_silent: bool
) -> None:
    evaluator = replace(HEALTHY, name="alerts", program="alerts", state=state)
    found = replace(STATUS, processes=[HEALTHY, evaluator], has_alerts=True, alerts_seen_seconds=seen)
    assert ("nothing sends alerts" in words(screen(found, 80))) is is_silent


def test_without_the_database_its_columns_are_unknown_and_a_line_says_why(screen: Callable[..., str]) -> None:
    found = replace(STATUS, processes=[HEALTHY, replace(WORKER, waiting=None, oldest_seconds=None)],
                    database_unavailable="PostgreSQL cannot be reached")  # fmt: skip
    shown = screen(found, 120)
    row = next(line for line in shown.splitlines() if line.startswith("meta-worker-1"))
    assert row.split()[-2:] == ["?", "?"]
    api = next(line for line in shown.splitlines() if line.startswith("api-0"))
    assert api.split()[-2:] == ["-", "-"]
    assert words(shown).count("PostgreSQL cannot be reached") == 1


def test_columns_are_chosen_and_unknown_ones_refused_with_all_names(screen: Callable[..., str]) -> None:
    shown = screen(replace(STATUS, processes=[HEALTHY, FAILING]), 80, "name,pid,release")
    assert "api-0  4321  0.1.0" in shown
    assert "SIGKILL" not in shown
    with pytest.raises(UsageError, match=r"unknown memry. There are: name, program, .*reason"):
        status_view.columns_named("name,memry")
    with pytest.raises(UsageError, match="There are"):
        status_view.columns_named(",")


def test_many_bots_are_cut_and_counted(screen: Callable[..., str]) -> None:
    bots = [BotTrouble("0128", index, "error", "the token is refused") for index in range(40)]
    shown = screen(replace(STATUS, processes=[HEALTHY], bots=bots), 80)
    assert shown.count("the token is refused") == status_view.MAX_BOTS
    assert "and 28 more bots" in shown


#: Words of any origin: names and reasons, some of them wide or not fit for a terminal.
TEXTS = st.one_of(st.text("ab ü測\x1b\n", max_size=90), st.sampled_from(["", "it was killed"]))
ROWS = st.lists(
    st.builds(
        replace, st.sampled_from([HEALTHY, FAILING, WORKER, session(1, linked_number="60123456789")]),
        name=st.text("ab-0測", min_size=1, max_size=70), reason=TEXTS, recent_restarts=st.integers(0, 99),
        waiting=st.one_of(st.none(), st.integers(0, 99_999)), uptime_seconds=st.floats(0, 1e9),
    ),
    max_size=4,
)  # fmt: skip


def shown_lines(rows: list[ProcessRow], width: int, columns: str | None = None) -> list[str]:
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, emoji=False, width=width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", lambda: console)
        chosen = status_view.columns_named(columns) if columns else None
        status_view.show(replace(STATUS, processes=rows), chosen, every=True)
    return file.getvalue().splitlines()


@given(ROWS, st.sampled_from([40, 60, 80, 100, 120, 160, 200]), st.sampled_from([0, 50]))
@example([replace(HEALTHY, name="postgres-and-more")], 80, 0)
@example([HEALTHY], 80, 50)
def test_no_line_is_wider_than_the_terminal(rows: list[ProcessRow], width: int, sessions: int) -> None:
    lines = shown_lines([*rows, *map(session, range(sessions))], width)
    assert max(map(cell_len, lines)) <= width


WIDTHS = st.sampled_from([40, 60, 80, 100, 120, 160, 200])


@given(st.integers(14, 40), WIDTHS, st.text("r ", max_size=60).map(str.strip))
def test_the_title_of_the_reasons_stands_above_reasons_or_not_at_all(length: int, width: int, reason: str) -> None:
    lines = shown_lines([replace(HEALTHY, name="n" * length, reason=reason)], width)
    title = next(line for line in lines if line.startswith("name"))
    row = next(line for line in lines if line.startswith("nnn"))
    assert title.endswith("  reason") is bool(reason.strip() and row.endswith("r"))


def test_a_chosen_column_without_room_goes_below_each_row() -> None:
    lines = shown_lines([replace(HEALTHY, name="n" * 30)], 40, "name,release,pid,kind")
    assert "release 0.1.0" in " ".join(lines)


@given(st.text(), st.sampled_from([80, 200]))
def test_the_reason_of_others_acts_on_no_terminal(reason: str, width: int) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, emoji=False, width=width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", lambda: console)
        status_view.show(replace(STATUS, processes=[replace(FAILING, reason=reason)]))
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()
