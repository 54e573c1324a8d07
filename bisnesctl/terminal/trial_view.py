"""The screen of `bisnesctl rollout compare`."""

from collections.abc import Sequence

from bisnesctl.rollout.trial import Comparison, Pair
from bisnesctl.terminal import output
from bisnesctl.terminal.output import Column, escape

#: Messages that are listed of each kind of difference.
MAX_LISTED = 10

_COLUMNS = (Column("message"), Column("type"), Column("original"), Column("copy"), Column("reason", wraps=True))


def show(found: Comparison) -> None:
    """Prints it."""
    if not found.copied and not found.not_copied:
        output.result("no message was copied: none was accepted in that time, or all were copied before")
        return
    differing = len(found.copy_failed) + len(found.original_failed)
    pairs = [
        ("copied", f"{found.copied} into simulators; none of them to a person"),
        ("same outcome", f"{found.both_sent} sent, {found.both_failed} failed"),
        (
            "other outcome",
            f"copies that failed alone: {len(found.copy_failed)}; originals: {len(found.original_failed)}",
        ),
    ]
    if found.waiting:
        pairs.append(("no outcome yet", f"{found.waiting} originals"))
    pairs += [("not copied", f"{count}: {escape(reason)}") for reason, count in sorted(found.not_copied.items())]
    output.print_pairs(pairs)
    if differing:
        listed = [*found.copy_failed[:MAX_LISTED], *found.original_failed[:MAX_LISTED]]
        output.print_table(_COLUMNS, _rows(listed))
        if differing > len(listed):
            output.say(f"… and {differing - len(listed)} more: `--json` has all")
    if found.copy_failed:
        output.say("type: [b]bisnesctl describe message ID[/] for an original; its copy failed in the simulators alone")


def _rows(pairs: Sequence[Pair]) -> list[list[str]]:
    return [
        [each.message_id, escape(each.kind), _outcome(each.original, each.original_code),
         _outcome(each.copy, each.copy_code), escape(each.reason)]
        for each in pairs
    ]  # fmt: skip


def _outcome(outcome: str, code: str) -> str:
    return escape(f"{outcome} ({code})" if code and outcome != "sent" else outcome)
