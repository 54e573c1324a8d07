"""The root of the command line. Each file or folder beside this one is a command of the same name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import bisnesctl
from bisnesctl.errors import ExitCode, UsageError
from bisnesctl.terminal.habits import ALIASES

if TYPE_CHECKING:
    from bisnesctl.lifecycle.targets import Targets
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.processes.selection import Selection
    from bisnesctl.processes.supervisor import Process
    from bisnesctl.processes.topology import Instance
    from bisnesctl.settings import Settings

#: Headings under which `--help` groups the commands.
SETUP, RUN, WATCH, USE = "Set up", "Run", "Watch", "Use"

EPILOG = (
    f"Exit codes: {'; '.join(f'{code.value} {code.meaning}' for code in ExitCode)}."
    "  `health --probe`: 0 OK, 1 warning, 2 critical, 3 unknown."
    "\n\nSettings are read from the environment, then from ./.env, or from the file that BISNES_ENV names."
)


class Commands(TyperGroup):
    """A group of commands. It suggests only commands that an unknown one may mean."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name, with the other arguments."""
        word = args[0]
        if ctx.parent is None and (alias := ALIASES.get(word.lower())):
            return super().resolve_command(ctx, [*alias, *args[1:]])
        if word not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            from bisnesctl.terminal import usage

            raise UsageError(usage.unknown_command(word, list(self.commands), ctx.command_path, ctx.parent is None))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="bisnesctl",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def example(*lines: str) -> str:
    """The epilog of a command's help: examples to type."""
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise typer.BadParameter("it is empty")
    return text


def complete_name(incomplete: str) -> list[str]:
    """The programs and instances whose names begin like this; their former names once a letter is typed."""
    from bisnesctl.errors import BisnesError
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.processes.selection import ALIASES
    from bisnesctl.settings import load_partly

    try:
        instances = open_deployment(as_started(load_partly().with_defaults())).instances
    except BisnesError:
        return []
    names = list(dict.fromkeys(name for each in instances for name in (each.program.name, each.name)))
    former = [name for name, meant in ALIASES.items() if incomplete and set(meant) & set(names)]
    return [name for name in (*names, *former) if name.startswith(incomplete)]


#: Options and arguments that several commands have.
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Programs, instances, or `all`.", autocompletion=complete_name),
]
LogNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Programs, instances, or supervisord.", autocompletion=complete_name),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
#: The selectors, with which a command means some instances: see `selection_of`.
Companies = Annotated[
    list[str] | None, typer.Option("--company", metavar="ID", help="Only WhatsApp Web sessions of this company.")
]
Bots = Annotated[
    list[str] | None,
    typer.Option("--bot", metavar="BOT", help="Only the WhatsApp Web session of this bot, such as 0128-2."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", metavar="KIND", help="Only api, wwebjs, sessions, meta, events, dashboard or infrastructure."
    ),
]
States = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="Only what is running, stopped, failed or in another state."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what matches, and do nothing.")]
Company = Annotated[str, typer.Option(metavar="ID", help="The company, such as 0128.", callback=_not_blank)]
AnyCompany = Annotated[
    str | None, typer.Option("--company", metavar="ID", help="Only of this company.", callback=_not_blank)
]
TheCompany = Annotated[
    str, typer.Argument(metavar="COMPANY", show_default=False, help="The company, such as 0128.", callback=_not_blank)
]
ThePhone = Annotated[int, typer.Argument(min=0, metavar="PHONE", help="The bot's phone index within the company.")]
Phone = Annotated[int, typer.Option(min=0, metavar="INDEX", help="The bot's phone index within the company.")]


def usable_settings() -> "Settings":
    """The settings for a command that may work without some of them; the others are reported.

    A setting that is refused raises `ConfigError` when it is read.
    """
    from bisnesctl.settings import load_partly

    return _reported(load_partly())


def checked(found: "Settings") -> "Settings":
    """These settings for a command that starts processes. Raises `ConfigError` if one of them is refused."""
    from bisnesctl.errors import ConfigError

    if found.problems:
        raise ConfigError("\n".join(found.problems.values()))
    return _reported(found)


def _reported(found: "Settings") -> "Settings":
    from bisnesctl.terminal import output

    for remark in (*found.problems.values(), *found.notes):
        output.warn(remark)
    return found


def usable_deployment() -> "Deployment":
    """The deployment for a command that uses it; see `usable_settings` for refused settings."""
    from bisnesctl.processes.deployment import as_started, open_deployment

    return open_deployment(as_started(usable_settings()))


def started_deployment() -> "Deployment":
    """The same. Raises `NoDeployment` if nothing was ever started here."""
    deployment = usable_deployment()
    deployment.check_started()
    return deployment


def checked_deployment() -> "Deployment":
    """The deployment for a command that starts processes in it. Raises `ConfigError` if a setting is refused."""
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.settings import load_partly

    return open_deployment(as_started(checked(load_partly())))


def running_deployment(but: frozenset[str] = frozenset()) -> "Deployment":
    """The deployment for a command that must work regardless of `.env`: defaults replace refused settings.

    `but`: settings without which the command cannot work.
    """
    from bisnesctl.processes.deployment import as_started, open_deployment

    return open_deployment(as_started(usable_settings().with_defaults(but)))


def selection_of(
    names: Sequence[str] | None, companies: list[str] | None = None, bots: list[str] | None = None,
    kinds: list[str] | None = None, states: list[str] | None = None,
) -> "Selection":  # fmt: skip
    """The selection of a command line. Values may be separated by commas. Raises `UsageError` for an unknown state."""
    from bisnesctl.health.probes import Status
    from bisnesctl.processes.selection import RUNNING, Selection, check_known

    split = [
        tuple(value for word in given or () for value in word.split(",") if value)
        for given in (names, companies, bots, kinds, states)
    ]
    check_known("state", split[-1], [RUNNING, *(each.value for each in Status)])
    return Selection(*split)


def select(
    deployment: "Deployment",
    selection: "Selection",
    instances: "Sequence[Instance]",
    processes: "Mapping[str, Process]",
) -> "list[Instance]":
    """The instances that match a selection. Raises `UsageError` as `processes.selection.select` does."""
    from bisnesctl.health.inspection import inspect
    from bisnesctl.processes import selection as selections
    from bisnesctl.processes.extras import left_out_explained

    def states(chosen: "Sequence[Instance]") -> "dict[str, str]":
        return {name: each.status.value for name, each in inspect(deployment, chosen, processes).items()}

    with left_out_explained(deployment.settings):
        return selections.select(selection, instances, states)


def find_chosen(deployment: "Deployment", selection: "Selection") -> "Targets":
    """The meaning of a selection for a command that starts or restarts something of what runs.

    Raises `UsageError` if it is empty or means nothing, `NotRunning` if nothing runs.
    """
    from bisnesctl.lifecycle.targets import find_targets

    if selection.is_empty:
        raise UsageError("name programs or instances, `all`, or selectors such as `--bot 0128-2`")
    deployment.require_running()
    processes = deployment.processes()
    known = deployment.known(processes)
    return find_targets(deployment, selection, select(deployment, selection, known, processes), known)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bisnesctl {bisnesctl.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show a traceback if an error occurs (before the command).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Runs a business's chat bots as isolated, supervised processes behind one HTTP API.

    To start everything: `bisnesctl start --multiprocess --sandbox`. To see how it is: `bisnesctl status`. To stop it:
    `bisnesctl stop`.
    """
    if context.invoked_subcommand is None:  # `-v` alone: other tools print their version
        _version(True)
