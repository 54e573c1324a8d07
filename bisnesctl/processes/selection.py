"""Which instances a command means: names, narrowed by company, bot, kind and state.

Values of one selector are alternatives; different selectors must all match. `cli.app` has the options.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bisnesctl.errors import UsageError
from bisnesctl.naming import SESSION
from bisnesctl.processes.topology import Instance, Kind, Mode, Program

#: Names of the old system, and names of whole channels.
ALIASES = {
    "bisnesgpt-api": ("api",),
    "bisnesgpt-meta": ("meta", "meta-worker"),
    "bisnesgpt-wwebjs": ("wwebjs", "wwebjs-session"),
    "whatsapp-service-legacy": ("legacy",),
}
#: How similar a name must be to an unknown one to be suggested, from 0 to 1.
SIMILARITY = 0.7
#: The name that means every instance.
EVERYTHING = "all"

#: The state of every instance that has a process. All other states are the words of `bisnesctl status`.
RUNNING = "running"
#: States in which `status` shows an instance that has no process.
WITHOUT_PROCESS = frozenset({"stopped", "down", "failing", "blocked", "failed"})
#: Values that an error lists, at most.
_MAX_NAMED = 12

_NO_SESSIONS = "No WhatsApp Web session is set up here, and other processes serve all bots: `bisnesctl bots list`"

#: Finds the states of instances by name, as `bisnesctl status` shows them.
FindStates = Callable[[Sequence[Instance]], Mapping[str, str]]


@dataclass(frozen=True)
class Selection:
    """Names and selectors as they were typed; empty: everything."""

    #: Programs, instances, aliases, or `all`.
    names: tuple[str, ...] = ()
    companies: tuple[str, ...] = ()
    #: WhatsApp Web bots, as `<company>-<phone index>`.
    bots: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    #: `RUNNING`, or words of `bisnesctl status`.
    states: tuple[str, ...] = ()

    @property
    def has_selectors(self) -> bool:
        """Whether more than names was typed, so that the operator may not know what matches."""
        return bool(self.companies or self.bots or self.kinds or self.states)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was typed."""
        return not (self.names or self.has_selectors)

    def __str__(self) -> str:
        """The words as they may be typed."""
        options = (("company", self.companies), ("bot", self.bots), ("kind", self.kinds), ("state", self.states))
        return " ".join([*self.names, *(f"--{name} {','.join(values)}" for name, values in options if values)])


def select(selection: Selection, instances: Sequence[Instance], states: FindStates) -> list[Instance]:
    """The instances that match, in their order; none if only their states differ.

    Raises `UsageError` that lists what is known, for an unknown name, company, bot or kind.
    """
    check_known("kind", selection.kinds, [each.value for each in Kind])
    check_known("bot", selection.bots, sorted(filter(None, map(bot_of, instances))))
    check_known("company", selection.companies, sorted(dict.fromkeys(filter(None, map(company_of, instances)))))
    found = resolve(selection.names, instances) if selection.names else list(instances)
    for values, value_of in (
        (selection.kinds, lambda each: each.program.kind.value),
        (selection.bots, bot_of),
        (selection.companies, company_of),
    ):
        found = [each for each in found if not values or value_of(each) in values]
    if selection.states and found:
        now = states(found)
        found = [each for each in found if not _states_of(now[each.name]).isdisjoint(selection.states)]
    return found


def check_known(selector: str, values: Iterable[str], known: Sequence[str]) -> None:
    """Raises `UsageError` that lists the known values of a selector if one of these values is none of them."""
    for value in values:
        if value not in known:
            close = difflib.get_close_matches(value, known, 1)
            listed = ", ".join(known[:_MAX_NAMED]) + (
                f" and {len(known) - _MAX_NAMED} more" if known[_MAX_NAMED:] else ""
            )
            raise UsageError(
                f"unknown {selector} {value}{f', did you mean {close[0]}?' if close else '.'} "
                + (f"There are: {listed}" if known else _NO_SESSIONS)
            )


def bot_of(instance: Instance) -> str:
    """The bot that an instance serves alone, as `<company>-<phone index>`; empty for all but WhatsApp Web sessions."""
    if "company" in instance.variables:
        return f"{instance.variables['company']}-{instance.variables['phone']}"
    return instance.name.removeprefix(f"{SESSION}-") if instance.program.dynamic else ""  # an extra instance


def company_of(instance: Instance) -> str:
    """The company that an instance serves alone; empty for all but WhatsApp Web sessions."""
    return bot_of(instance).rpartition("-")[0]


def _states_of(word: str) -> set[str]:
    return {word} if word in WITHOUT_PROCESS else {word, RUNNING}


def in_mode(instances: Iterable[Instance], mode: Mode, only: Sequence[str] = ()) -> list[Instance]:
    """The instances of a mode. `only`: limits them to these names and the programs that these need.

    `meta` and `wwebjs` mean the whole channel, with its workers or sessions. Raises `UsageError` for an unknown name.
    """
    candidates = [each for each in instances if mode in each.program.modes]
    if not only:
        return candidates
    wanted = resolve([f"bisnesgpt-{name}" if name in ("meta", "wwebjs") else name for name in only], candidates)
    return [each for each in candidates if each in wanted or _is_needed(each.program)]


def _is_needed(row: Program) -> bool:
    """Whether every mode needs it: the guard and the servers. Sessions run in both modes but are not needed."""
    return len(row.modes) > 1 and not row.dynamic


def resolve(names: Iterable[str], instances: Sequence[Instance]) -> list[Instance]:
    """The instances with these names of programs, instances or aliases, or `all`, in order of start, each once.

    Raises `UsageError` that lists the known names.
    """
    found: set[str] = set()
    for name in names:
        meant = set(ALIASES.get(name, (name,)))
        matches = {each.name for each in instances if name == EVERYTHING or meant & {each.name, each.program.name}}
        if name == "supervisord":
            raise UsageError(
                "supervisord runs the programs and is none of them: `bisnesctl describe supervisord` shows it, "
                "`bisnesctl stop` ends it with all of them"
            )
        if not matches:
            known = ", ".join(dict.fromkeys(each.program.name for each in instances))
            hint = near_names(name, instances)
            beginning = f"unknown name {name}{f': {hint}' if hint else ''}{'' if hint.endswith('?') else '.'}"
            raise UnknownName(f"{beginning} There are: {known}, their instances, and {EVERYTHING}", name)
        found |= matches
    return [each for each in instances if each.name in found]


class UnknownName(UsageError):
    """This name of a program or an instance is unknown. See `bisnesctl status`."""

    def __init__(self, message: str | None = None, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def instances_instead(name: str, instances: Sequence[Instance]) -> str:
    """The instances of a program, as the end of a sentence, if the name is that of one that it does not have."""
    own = [each.name for each in instances if each.program.name == name.rpartition("-")[0]]
    if not own or not name.rpartition("-")[2].isdecimal():
        return ""
    return f"there is only {own[0]}" if len(own) == 1 else f"there are {', '.join(own[:-1])} and {own[-1]}"


def near_names(name: str, instances: Sequence[Instance]) -> str:
    """The names that an unknown one may mean, as the end of a sentence; empty if it resembles none."""
    if name.isdecimal():
        return "names replace ids, `bisnesctl status` lists them"
    if existing := instances_instead(name, instances):
        return existing
    known = (word for each in instances for word in (each.program.name, each.name))
    words = dict.fromkeys([EVERYTHING, *known, *ALIASES])
    meant = difflib.get_close_matches(name.lower(), words, 2, SIMILARITY)
    return f"did you mean {' or '.join(meant)}?" if meant else ""
