"""`bisnesctl release list`: the releases, and the command to return to each."""

import time
from typing import TYPE_CHECKING

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AsJson, example, usable_settings
from bisnesctl.cli.release.group import release

if TYPE_CHECKING:
    from bisnesctl.releases.overview import ListedRelease, ReleaseOverview

_STYLES = {"current": "green", "failed": "red", "on trial": "yellow"}


@release.command("list", epilog=example("bisnesctl release list", "bisnesctl release list --json"))
@reads
def list_releases(json: AsJson = False) -> None:
    """List the releases with their state, and the command that makes each of them current.

    A release is current, previous (`release rollback` returns to it), good (it was current once), ready (it never ran),
    on trial, or failed, with the reason. Number 0 is the checkout that ran before the first release.
    """
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.releases import overview
    from bisnesctl.terminal import output

    found = overview.look(open_deployment(as_started(usable_settings())))
    if json:
        output.print_json(_as_dict(found))
        return
    _show_summary(found)
    if not overview.is_in_place(found):
        _show_table(found.releases)
    _show_troubles(found)


def _as_dict(found: "ReleaseOverview") -> dict[str, object]:
    from dataclasses import asdict

    switch = found.switch
    return {
        "home": str(found.home),
        "releases": [asdict(each) for each in found.releases],
        "unfinished": found.unfinished,
        "switch": None
        if switch is None
        else {
            "from": switch.origin,
            "to": switch.target,
            "stage": switch.stage.value,
            "since": switch.at,
            "interrupted": switch.interrupted,
            "reason": switch.reason,
            "failed": switch.failed,
        },
    }


def _show_summary(found: "ReleaseOverview") -> None:
    from bisnesctl.formatting import listed
    from bisnesctl.releases import overview
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    current = next((each for each in found.releases if each.state == "current"), None)
    if overview.is_in_place(found):
        where = f"a checkout runs in place: {current.source} ({current.version})" if current else "nothing is installed"
        output.result(f"no releases: {where}")
        output.result("to have releases side by side: bisnesctl release install SOURCE")
        return
    name = _name(current) if current else "none is current: `bisnesctl release switch NUMBER` makes one current"
    output.result(f"current: {name}")
    for each in found.releases:
        if each.processes and each is not current:
            verb = "runs" if len(each.processes) == 1 else "run"
            output.result(f"{escape(listed(each.processes))} {verb} {_name(each)}")


def _name(each: "ListedRelease") -> str:
    return f"the checkout at {each.source}" if each.number == 0 else f"release {each.number} ({each.version})"


def _show_table(releases: "list[ListedRelease]") -> None:
    from bisnesctl.terminal import output

    columns = [
        *(output.Column("#", "right"), output.Column("version"), output.Column("state"), output.Column("installed")),
        *(output.Column("by", from_width=80), output.Column("size", "right"), output.Column("from", from_width=120)),
        *(output.Column("reason", wraps=True), output.Column("to make it current", from_width=110)),
    ]
    output.print_table(columns, [_cells(each) for each in releases])


def _cells(each: "ListedRelease") -> list[str]:
    from bisnesctl import formatting
    from bisnesctl.terminal.output import escape

    at = "-" if each.installed_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(each.installed_at))
    style = _STYLES.get(each.state, "")
    return [
        *(str(each.number), escape(f"{each.version} {each.revision}".strip())),
        *(f"[{style}]{each.state}[/]" if style else each.state, at, escape(each.installed_by or "-")),
        *("-" if each.size is None else formatting.size(each.size), escape(each.source)),
        *(escape(each.reason or "-"), each.command or "-"),
    ]


def _show_troubles(found: "ReleaseOverview") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    if (switch := found.switch) is not None:
        at = time.strftime("%H:%M", time.localtime(switch.at))
        if not switch.interrupted:
            output.result(f"{escape(switch.command)} is {switch.stage} since {at} (pid {switch.pid})")
        else:
            tried = f"; the last attempt failed: {switch.failed}" if switch.failed else ""
            output.result(
                f"{escape(switch.command)} of {at} was interrupted while it was {switch.stage}{escape(tried)}"
            )
            output.result("the guard puts that right within a minute")
            output.result("to do it at once: bisnesctl release rollback --unfinished")
    for folder in found.unfinished:
        output.result(f"{escape(folder)}: its installation was interrupted; the next install or prune removes it")
