"""`bisnesctl help`: the documentation in the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import SETUP, app, example

if TYPE_CHECKING:
    from bisnesctl.terminal.help_pages import Page

#: Columns of a page, at most: longer lines are hard to read.
PAGE_COLUMNS = 100


def _complete_topic(incomplete: str) -> list[str]:
    """The topics that begin like this."""
    from bisnesctl.terminal import help_pages

    return [page.topic for page in help_pages.pages() if page.topic.startswith(incomplete)]


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl help", "bisnesctl help troubleshoot"))
@reads
def help(
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]", help="The page to show.", show_default=False, autocompletion=_complete_topic),
    ] = None,
) -> None:
    """Show a page of the documentation, or list all pages.

    `bisnesctl COMMAND --help` describes one command. If the output is piped, pages are plain Markdown.
    """
    from bisnesctl.terminal import help_pages

    if not topic:
        _list()
        return
    _show(help_pages.find(topic, list(typer.main.get_group(app).commands)))


def _list() -> None:
    from bisnesctl.terminal import help_pages, output
    from bisnesctl.terminal.output import escape

    found = help_pages.pages()
    width = max(len(page.topic) for page in found)
    for kind, title in help_pages.KINDS.items():
        output.out().print(f"[b]{title}[/]")
        for page in found:
            if page.kind == kind:
                output.out().print(escape(f"  {page.topic:{width}}  {page.summary}"), soft_wrap=True)
    output.say("to read one: [b]bisnesctl help TOPIC[/]")


def _show(page: "Page") -> None:
    from rich.markdown import Markdown

    from bisnesctl.terminal import help_pages, output

    console = output.out()
    if not console.is_terminal:
        output.result(page.text.rstrip())
        return
    import os

    os.environ.setdefault("LESS", "-FRX")  # colours, and no pager for a page that fits the screen
    with console.pager(styles=True):
        text = Markdown(help_pages.for_terminal(page), code_theme="ansi_dark", hyperlinks=False)
        console.print(text, width=min(console.width, PAGE_COLUMNS))
