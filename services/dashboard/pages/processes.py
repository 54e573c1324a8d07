"""The processes: the table of `bisnesctl status`, one process with its log, and what can be done to it."""

from collections import deque
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for

from bisnesctl.people.roles import Role
from bisnesctl.processes import scales
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import load_partly
from bisnesctl.views import process_page
from bisnesctl.views.process_page import ProcessPage
from services.dashboard import figures, findings, rendering
from services.dashboard.access import needs
from services.dashboard.context import context

pages = Blueprint("processes", __name__)
#: Actions about a process.
ACTIONS = ("start", "stop", "restart", "reload")
#: Lines of a log that a page shows.
LOG_LINES = 200
#: Bytes at the end of a log that are searched.
LOG_BYTES = 4 << 20


@pages.get("/processes")
@needs(Role.VIEWER)
def index() -> Any:
    """The table."""
    numbers = context().sources.shared("scales", lambda: scales.find(load_partly().with_defaults()))
    return rendering.page("processes.html", overview=findings.overview(), well=findings.WELL, scales=numbers)


@pages.get("/scale")
@needs(Role.OPERATOR)
def scale() -> Any:
    """Leads from a number of instances to what it would cost."""
    program, number = (request.args.get(name, "").strip() for name in ("program", "number"))
    return redirect(url_for("actions.ask", action="scale", subject=f"{program}={number}"))


@pages.get("/processes/<name>")
@needs(Role.VIEWER)
def show(name: str) -> Any:
    """One process."""
    found, page = _find(name)
    process = found.program.process or found.program.name
    return rendering.page("process.html", page=page, actions=ACTIONS, plots=figures.instance(process, page))


@pages.get("/processes/<name>/log")
@needs(Role.VIEWER)
def log(name: str) -> Any:
    """The end of its log, with the lines that have a text."""
    (_, page), wanted = _find(name), request.args.get("q", "").strip()
    stream = "errors" if request.args.get("stream") == "errors" else "output"
    folder = context().settings.log_dir
    file = folder / f"{page.name}{'.err' if stream == 'errors' else ''}.log"
    lines, problem = _last_lines(file, wanted)
    return rendering.page("log.html", page=page, lines=lines, problem=problem, wanted=wanted, stream=stream)


def _find(name: str) -> tuple[Instance, ProcessPage]:
    sources = context().sources
    deployment = sources.deployment()
    found = findings.instance(deployment, name)
    if found is None:
        abort(404)
    whole = findings.overview()
    return found, sources.shared(("process", name), lambda: process_page.describe(deployment, [found], whole)[0])


def _last_lines(file: Path, wanted: str) -> tuple[list[str], str]:
    """The last lines of a file that have a text, and why there are none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - LOG_BYTES))
            text = stream.read(LOG_BYTES).decode(errors="replace")
    except OSError as error:
        return [], error.strerror or str(error)
    found: deque[str] = deque(maxlen=LOG_LINES)
    found.extend(line for line in text.splitlines() if wanted.casefold() in line.casefold())
    return list(found), ""
