"""The command line's root. Every file beside this one registers its commands; see `load_commands`."""

import importlib
import pkgutil
from typing import Annotated

import typer

import bisnesctl
from bisnesctl import cli
from bisnesctl.errors import ExitCode

#: Titles under which `--help` groups the commands.
SETUP, RUN, WATCH, USE = "Set up", "Run", "Watch", "Use"

#: The order of the commands in `--help`: the order in which a newcomer needs them.
ORDER = ("help", "init", "render", "migrate", "start", "stop", "restart", "rollback", "status", "health", "logs")

EPILOG = (
    f"Exit codes: {'; '.join(f'{code.value} {code.meaning}' for code in ExitCode)}."
    "  `health --probe`: 0 OK, 1 warning, 2 critical, 3 unknown."
    "\n\nSettings come from the environment over ./.env, or over the file that BISNES_ENV names."
)

app = typer.Typer(
    name="bisnesctl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def example(*lines: str) -> str:
    """The epilog of a command's help: how it is typed."""
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise typer.BadParameter("it is empty")
    return text


#: Options and arguments that several commands have.
Company = Annotated[str, typer.Option(metavar="ID", help="The company, such as 0128.", callback=_not_blank)]
AnyCompany = Annotated[
    str | None, typer.Option("--company", metavar="ID", help="Only of this company.", callback=_not_blank)
]
TheCompany = Annotated[
    str, typer.Argument(metavar="COMPANY", show_default=False, help="Such as 0128.", callback=_not_blank)
]
ThePhone = Annotated[int, typer.Argument(min=0, metavar="PHONE", help="Which of its numbers (phoneIndex).")]
Phone = Annotated[int, typer.Option(min=0, metavar="INDEX", help="Which of the company's numbers (phoneIndex).")]


def load_commands() -> None:
    """Imports every command file, which registers itself. They import what is slow only when they run."""
    names = [module.name for module in pkgutil.iter_modules(cli.__path__)]
    for name in sorted(names, key=_place):
        importlib.import_module(f"{cli.__name__}.{name}")


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bisnesctl {bisnesctl.__version__}")
        raise typer.Exit


@app.callback()
def root(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show where an error came from (before the command).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Runs a business's chat bots as isolated, supervised processes behind one HTTP API.

    Start with `bisnesctl start --multiprocess --sandbox`, look with `bisnesctl status`, end with
    `bisnesctl stop`.
    """
