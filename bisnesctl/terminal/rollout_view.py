"""The screen of `bisnesctl rollout status`."""

from bisnesctl.rollout.overview import Overview
from bisnesctl.rollout.state import Phase, Rollout
from bisnesctl.terminal import output
from bisnesctl.terminal.figures_view import show_figures
from bisnesctl.terminal.output import Column, escape

_COLOURS = {"pass": "green", "fail": "red", "hold": "yellow"}


def headline(rollout: Rollout) -> str:
    """How a rollout stands, in one line without markup."""
    name = f"rollout {rollout.id} to {rollout.to_side}"
    match rollout.phase:
        case Phase.DONE:
            return f"{name}: done, all {len(rollout.bots)} bots have moved"
        case Phase.UNDONE:
            return f"{name}: undone, {rollout.from_side} serves all bots again ({rollout.reason})"
        case Phase.BACK:
            return f"{name}: it goes back ({rollout.reason})"
    how = "paused at" if rollout.paused else "at"
    return f"{name}: {how} {rollout.current}, {len(rollout.wanted)} of {len(rollout.bots)} bots"


def show(found: Overview) -> None:
    """Prints it."""
    rollout = found.rollout
    if rollout is not None:
        output.result(headline(rollout))
    pairs = [("wanted", escape(found.wanted)), ("is", escape(found.actual))]
    if found.difference:
        pairs.append(("why", escape(found.difference)))
    if rollout is not None and rollout.reason and not rollout.phase.is_end:
        pairs.append(("reason", escape(rollout.reason)))
    if rollout is not None and rollout.ruling and not rollout.phase.is_end:
        pairs.append(("verdict", f"[{_COLOURS.get(rollout.ruling, 'dim')}]{rollout.ruling}[/]"))
        pairs += [("", escape(each)) for each in rollout.reasons]
    pairs.append(("next", escape(found.next)))
    if rollout is not None and not rollout.phase.is_end:
        driver = found.driver or "its command has ended; the program alerts continues it within seconds"
        pairs.append(("driven by", escape(driver)))
    if found.command:
        pairs.append(("type", f"[b]{escape(found.command)}[/]"))
    output.print_pairs(pairs)
    output.print_table(
        [Column("side"), Column("runs"), Column("bots", "right"), Column("in the rollout", "right"),
         Column("waiting", "right"), Column("in hand", "right")],
        [
            (each.side.value, "yes" if each.running else "no", str(each.bots), str(each.moving_bots),
             str(each.waiting), str(each.in_hand))
            for each in found.sides
        ],
    )  # fmt: skip
    if found.figures:
        output.result("since the step began, by the side of the bots:")
        show_figures(found.figures)
    if found.draining:
        output.result(f"being handed over now: {', '.join(found.draining)}")
