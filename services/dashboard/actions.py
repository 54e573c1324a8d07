"""Actions, by which people change something from the pages: each one is a command of the tool about one subject."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bisnesctl.people.roles import Role
from bisnesctl.processes.scales import SCALABLE

_PROCESS = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}", re.IGNORECASE)
_BOT = re.compile(r"([A-Za-z0-9_.]{1,64})-(\d{1,6})")
_MESSAGE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LETTER = re.compile(r"[0-9a-f-]{36}|[0-9]{1,18}|evt_[0-9A-Za-z_]{1,60}", re.IGNORECASE)
_SCALE = re.compile(rf"({'|'.join(row.name for row in SCALABLE)})=(\d{{1,3}}|default)")
_ROLLOUT = re.compile(r"rollout")
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_STEPS = re.compile(r"[0-9][0-9.%:, a-z]{0,199}")
_ALERT = re.compile(r"[a-z_*]{1,60}(\[[^\]\n]{0,80}\])?")


@dataclass(frozen=True)
class Field:
    """A value that a person may give."""

    #: The option of the command; without dashes, a value of its own, which must be given.
    option: str
    #: The key of its label among the texts.
    label: str
    default: str = ""
    #: The form of a value; None: any text.
    form: re.Pattern[str] | None = None

    @property
    def name(self) -> str:
        """The name of the field in a form."""
        return self.option.removeprefix("--")

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.name == self.option

    def words(self, value: str) -> list[str] | None:
        """The words of the command for a value; None if the value does not have its form."""
        if not value:
            return None if self.is_required else []
        if not value.isprintable() or not (self.form is None or self.form.fullmatch(value)):
            return None
        return [value] if self.is_required else [f"{self.option}={value}"]


@dataclass(frozen=True)
class Action:
    """One action."""

    #: The kind of its subject: process, program, bot, message, letter, alert or rollout.
    kind: str
    #: The form of a subject; a subject that does not have it is refused, so that none can pass for an option.
    subject: re.Pattern[str]
    #: The words of the command for a subject.
    words: Callable[[str], list[str]]
    #: Words that are added to run it without a question.
    consent: tuple[str, ...] = ("--yes",)
    #: Whether `--dry-run` says what it would do.
    has_preview: bool = True
    #: The words of another command that says it.
    preview: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    role: Role = Role.OPERATOR
    #: Whether the people of one company may do it to what is the company's.
    company: bool = False
    #: The key of its cost among the texts, if that does not depend on its subject.
    cost: str = ""


def _split(bot: str) -> list[str]:
    company, _, phone = bot.rpartition("-")
    return [company, phone]


def _slash(bot: str) -> str:
    return "/".join(_split(bot))


def _process(verb: str) -> Action:
    return Action("process", _PROCESS, lambda name: [verb, name])


def _rollout(cost: str, *words: str) -> Action:
    return Action("rollout", _ROLLOUT, lambda _: ["rollout", *words], (), False, cost=f"rollout.cost_{cost}")


def _new_rollout(field: Field, *words: str) -> Action:
    return replace(_rollout("advance", *words), preview=("rollout", "plan"), fields=(field,))


_REASON = Field("--reason", "actions.reason")
_FOR = Field("--for", "actions.for")

ACTIONS: Mapping[str, Action] = {
    "start": Action("process", _PROCESS, lambda name: ["start", name], consent=()),
    "stop": _process("stop"),
    "restart": _process("restart"),
    "reload": _process("reload"),
    "scale": Action("program", _SCALE, lambda number: ["scale", number], consent=()),
    "pause": Action(
        "bot", _BOT, lambda bot: ["queue", "pause", _slash(bot)], has_preview=False, fields=(_REASON, _FOR),
        company=True,
    ),
    "resume": Action("bot", _BOT, lambda bot: ["queue", "resume", _slash(bot)], has_preview=False, company=True),
    "verify": Action(
        "bot", _BOT, lambda bot: ["bots", "verify", "--company", _split(bot)[0], "--phone", _split(bot)[1]], (), False,
        company=True,
    ),
    "unblock": Action("bot", _BOT, lambda bot: ["bots", "unblock", *_split(bot)], (), False, company=True),
    "restart-session": Action("bot", _BOT, lambda bot: ["restart", "--bot", bot]),
    "retry": Action("message", _MESSAGE, lambda message: ["queue", "retry", message], company=True),
    "cancel": Action("message", _MESSAGE, lambda message: ["queue", "cancel", message], company=True),
    "retry-letter": Action("letter", _LETTER, lambda letter: ["dead-letters", "retry", letter], (), company=True),
    "silence": Action(
        "alert", _ALERT, lambda alert: ["alerts", "silence", alert], (), False,
        fields=(_REASON, Field("--for", "actions.for", "2h")),
    ),
    "unsilence": Action("alert", _ALERT, lambda alert: ["alerts", "unsilence", alert], (), False),
    "begin": _new_rollout(Field("--percent", "rollout.percent", "10", _PERCENT), "start"),
    "begin-by-itself": _new_rollout(
        Field("steps", "rollout.steps_help", "10%:10m,50%:30m,100%", _STEPS), "run", "--detach"
    ),
    "advance": _rollout("advance", "advance"),
    "advance-anyway": _rollout("advance_anyway", "advance", "--force"),
    "hold": _rollout("hold", "pause"),
    "continue": _rollout("continue", "resume"),
    "abort": _rollout("abort", "abort"),
}  # fmt: skip


def words_of(action: Action, subject: str, values: Mapping[str, str]) -> list[str] | None:
    """The words of a command, without consent; None if the subject or a value does not have its form."""
    if not action.subject.fullmatch(subject):
        return None
    found = action.words(subject)
    for each in action.fields:
        words = each.words(values.get(each.name, "").strip())
        if words is None:
            return None
        found += words
    return found
