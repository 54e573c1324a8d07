"""Finds what a name means: an instance, all instances of a program, a bot, or a message."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bisnesctl.bots import store
from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError, DatabaseUnavailable, UsageError
from bisnesctl.health.event_history import as_bot, suggestion
from bisnesctl.naming import SESSION, SUPERVISORD
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import why_left_out
from bisnesctl.processes.selection import ALIASES, bot_of, instances_instead, near_names
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings
from bisnesctl.views import bot_page, message_page, process_page, supervisor_page
from bisnesctl.views.bot_page import BotPage
from bisnesctl.views.message_page import MessagePage
from bisnesctl.views.process_page import ProcessPage
from bisnesctl.views.supervisor_page import SupervisorPage

#: Seconds to connect, and for the statement that finds similar names.
_DATABASE_TIMEOUT_SECONDS = 2
_MESSAGE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Description:
    """The pages of a name."""

    #: process, program (several instances), supervisord, bot or message.
    kind: str
    pages: list[ProcessPage | BotPage | MessagePage | SupervisorPage]


def describe(deployment: Deployment, name: str, with_text: bool = False) -> Description:
    """The pages of a name.

    Raises `UsageError` with similar names if there is nothing of this name, and `DatabaseUnavailable` if only the
    database knows; `NoDeployment` if nothing was ever started here.
    """
    if deployment.settings.embedded_postgres:
        deployment.check_started()  # no name is known before the first start
    if _MESSAGE.fullmatch(name):
        return _message(deployment.settings, name, with_text)
    if name == SUPERVISORD:
        deployment.check_started()
        return Description("supervisord", [supervisor_page.describe(deployment)])
    instances = deployment.known(deployment.processes())
    if chosen := _instances(name, instances):
        deployment.check_started()
        pages = list[ProcessPage | BotPage | MessagePage | SupervisorPage](process_page.describe(deployment, chosen))
        return Description("process" if len(pages) == 1 else "program", pages)
    if not name.startswith(SESSION) and (why := why_left_out(name, deployment.settings)):
        raise UsageError(why)
    existing = instances_instead(name, instances)
    if bot := as_bot(name):
        try:
            found = bot_page.describe(deployment, *bot)
        except DatabaseUnavailable as error:
            if not existing:
                return _session(deployment, f"{bot[0]}-{bot[1]}", instances, error)
        else:
            if found is not None:
                return Description("bot", [found])
    if existing:
        raise UsageError(f"there is no instance {name}: {existing}")
    if name.isdecimal():
        raise UsageError(f"there is no process, bot or message {name}: {near_names(name, instances)}")
    raise UsageError(f"there is no process, bot or message {name}{_similar(deployment, name, instances)}")


def _session(
    deployment: Deployment, bot: str, instances: Sequence[Instance], error: DatabaseUnavailable
) -> Description:
    """The session of a bot, which is known here without the database. Raises the error if it has none."""
    own = [each for each in instances if bot_of(each) == bot]
    if not own:
        raise error
    missing = f"the bot itself, its hold, limits, messages and webhooks: {error}"
    pages = [replace(each, unseen=[*each.unseen, missing]) for each in process_page.describe(deployment, own)]
    return Description("process", list(pages))


def _instances(name: str, instances: Sequence[Instance]) -> list[Instance]:
    meant = set(ALIASES.get(name, (name,)))
    return [each for each in instances if meant & {each.name, each.program.name}]


def _message(settings: Settings, name: str, with_text: bool) -> Description:
    found = message_page.describe(settings, name, with_text)
    if found is None:
        raise UsageError(
            f"there is no message {name}: it was deleted after its time, or belongs to another database "
            "(`bisnesctl status` names the home)"
        )
    return Description("message", [found])


def _similar(deployment: Deployment, name: str, instances: Sequence[Instance]) -> str:
    known = [word for each in instances for word in (each.name, each.program.name)]
    try:
        with postgres.connected(deployment.settings.database_dsn, timeout=_DATABASE_TIMEOUT_SECONDS) as connection:
            known += [f"{each.company}-{each.phone}" for each in store.find(connection)]
    except DatabaseUnavailable:
        hint = suggestion(name, known)
        end = "" if hint.endswith("?") else "."
        return f"{hint}{end} Bots cannot be looked up, because PostgreSQL is unavailable"
    except BisnesError:
        pass
    return suggestion(name, list(dict.fromkeys(known)))
