"""Reads what the live screen shows. Each part works without the services and servers, within time limits."""

import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text

from bisnesctl.bots import causes, store
from bisnesctl.bots.store import Bot
from bisnesctl.database import postgres
from bisnesctl.database.event_log import EventFilter, EventLog
from bisnesctl.database.postgres import Connection
from bisnesctl.diagnosis import diagnose, targets
from bisnesctl.diagnosis.chain import Diagnosis
from bisnesctl.errors import BisnesError
from bisnesctl.health import event_history
from bisnesctl.health.resource_usage import Meter
from bisnesctl.logs.files import files_of
from bisnesctl.logs.filters import BotPattern, Filter
from bisnesctl.logs.zones import zone_of
from bisnesctl.monit.log_feed import LogFeed
from bisnesctl.monit.rows import Row
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import load_partly
from bisnesctl.terminal import output, page_view, printable
from bisnesctl.views import subject
from bisnesctl.views.overview import Overview, overview

#: Seconds to connect for the list of bots, and for the statement.
DATABASE_TIMEOUT_SECONDS = 2
#: Events that are shown, at most.
MAX_EVENTS = 100


@dataclass(frozen=True)
class Snapshot:
    """The deployment at one moment."""

    overview: Overview
    bots: list[Bot]
    #: Why settings are refused.
    problems: list[str]
    #: The user to whom the deployment belongs, if it is another one; else empty.
    owner: str
    #: Seconds since the epoch.
    at: float
    #: When the bots were read; None: never.
    bots_at: float | None
    #: Why bots send nothing, by their names.
    causes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """The facts about one row."""

    key: str
    diagnosis: Diagnosis | None
    events: EventLog
    #: Why there is no diagnosis.
    refusal: str = ""


class Source:
    """Reads from the deployment of this directory. One thread for each method at a time."""

    def __init__(self) -> None:
        self._bots: list[Bot] = []
        self._causes: dict[str, str] = {}
        self._bots_at: float | None = None
        self._meter = Meter()

    def snapshot(self) -> Snapshot:
        """The deployment now. While the database is unavailable, the bots are those that were read last."""
        deployment, problems = _open()
        found = overview(deployment, sample=self._meter.sample())
        if found.condition == "running" and not found.database_unavailable:
            self._read_bots(deployment)
        return Snapshot(found, self._bots, problems, _other_owner(deployment), time.time(), self._bots_at, self._causes)

    def _read_bots(self, deployment: Deployment) -> None:
        try:
            with postgres.connected(deployment.settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
                self._bots, self._bots_at = store.find(connection), time.time()
                self._causes = _causes(connection, deployment.settings.max_heartbeat_age / 1000)
        except BisnesError:
            return  # the rows stay, with the time at which they were read

    def details(self, row: Row) -> Details:
        """The diagnosis and the events of a row."""
        deployment, problems = _open()
        wanted = EventFilter(bots=(row.bot,), limit=MAX_EVENTS) if row.is_bot else EventFilter(
            instances=(row.name,), limit=MAX_EVENTS)  # fmt: skip
        events = event_history.read(deployment, wanted)
        try:
            found = diagnose.diagnose(deployment, problems, targets.find([row.name], deployment))
        except BisnesError as error:
            return Details(row.key, None, events, str(error))
        return Details(row.key, found[0], events)

    def page(self, row: Row, width: int) -> Text:
        """The page of `bisnesctl describe`, for this width."""
        console = output.out()
        console.width = width
        try:
            found = subject.describe(_open()[0], row.name)
        except BisnesError as error:
            return Text(printable.one_line(str(error)), "yellow")
        with console.capture() as capture:
            for each in found.pages:
                page_view.show(each)
        return Text.from_ansi(capture.get().rstrip("\n"))

    def logs(self, row: Row) -> LogFeed:
        """The logs of a row."""
        deployment, _ = _open()
        zone = zone_of(deployment.supervisor_pid() or 0)
        folder = deployment.settings.log_dir
        if row.process:
            return LogFeed(files_of(folder, row.process), zone)
        company, _, phone = row.bot.rpartition("-")
        names = [each.name for each in deployment.instances if each.program.name in ("meta", "meta-worker", "legacy")]
        files = [file for name in names for file in files_of(folder, name)]
        pattern = BotPattern(company, int(phone), _id_of(deployment, company, int(phone)))
        return LogFeed(files, zone, Filter(bot=pattern))


def _causes(connection: Connection, silence_seconds: float) -> dict[str, str]:
    """Why bots send nothing, by their names. Their processes have rows of their own."""
    found = {}
    for bot in causes.situations(connection).values():
        own = [each.text for each in causes.causes_of(bot, silence_seconds) if each.about != "process"]
        found[f"{bot.company}-{bot.phone}"] = "; ".join(own)
    return found


def _open() -> tuple[Deployment, list[str]]:
    """The deployment, and why settings are refused; defaults replace those."""
    settings = load_partly()
    return open_deployment(as_started(settings.with_defaults())), list(settings.problems.values())


def _other_owner(deployment: Deployment) -> str:
    try:
        uid = deployment.settings.run_dir.stat().st_uid
    except OSError:
        return ""
    if uid == os.geteuid():
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _id_of(deployment: Deployment, company: str, phone: int) -> int | None:
    """The bot's number in the database, which some lines have instead of its name; None: not known."""
    try:
        with postgres.connected(deployment.settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
            return next((each.id for each in store.known(connection, company, phone)), None)
    except BisnesError:
        return None
