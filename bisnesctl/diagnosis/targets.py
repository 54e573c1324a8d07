"""The meaning of a name for `bisnesctl why`: a process, a bot or a message."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bisnesctl.errors import UsageError
from bisnesctl.naming import SESSION, SUPERVISORD
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import why_left_out
from bisnesctl.processes.selection import ALIASES, near_names

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: The ids that providers give to messages: of Meta, and of WhatsApp Web.
_PROVIDER_ID = re.compile(r"wamid\.\S+|(true|false)_\S+@\S+_\S+", re.ASCII)
_BOT = re.compile(r"(?P<company>.+?)[-/ ](?P<phone>[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class ProcessTarget:
    """An instance of a program, or supervisord."""

    name: str


@dataclass(frozen=True)
class BotTarget:
    """A bot, which may not exist."""

    company: str
    phone: int

    @property
    def name(self) -> str:
        """The bot's name, <companyId>-<phoneIndex>."""
        return f"{self.company}-{self.phone}"


@dataclass(frozen=True)
class MessageTarget:
    """A message, by our id or its provider's, which may not exist."""

    id: str


Target = ProcessTarget | BotTarget | MessageTarget


def find(words: Sequence[str], deployment: Deployment) -> list[Target]:
    """The targets that these words mean; `0128 0` and `0128-0` are the same bot.

    Raises `UsageError` for a name that means nothing.
    """
    if len(words) == 2 and words[1].isdecimal():
        words = ["-".join(words)]
    return [target for word in words for target in _meaning(word, deployment)]


def _meaning(word: str, deployment: Deployment) -> list[Target]:
    if _UUID.fullmatch(word):
        return [MessageTarget(word.lower())]
    if _PROVIDER_ID.fullmatch(word):
        return [MessageTarget(word)]
    if word == SUPERVISORD:
        return [ProcessTarget(SUPERVISORD)]
    known = deployment.known(deployment.processes())
    meant = set(ALIASES.get(word, (word,)))
    if found := [each for each in known if meant & {each.name, each.program.name}]:
        return [ProcessTarget(each.name) for each in found]
    if not word.startswith(SESSION) and (why := why_left_out(word, deployment.settings)):
        raise UsageError(why)
    if bot := _BOT.fullmatch(word.removeprefix(f"{SESSION}-")):
        return [BotTarget(bot["company"], int(bot["phone"]))]
    names = dict.fromkeys([SUPERVISORD, *(name for each in known for name in (each.program.name, each.name))])
    near = difflib.get_close_matches(word, names, 2)
    hint = f"did you mean {' or '.join(near)}? Name" if near else "name"
    if word.isdecimal():
        hint = f"{near_names(word, known)}. Name"
    raise UsageError(f"unknown name {word}: {hint} a process ({', '.join(names)}), a bot (0128-0) or a message's id")
