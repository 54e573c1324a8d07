"""`bisnesctl bots link`: links a phone to a WhatsApp Web bot."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import TheCompany, ThePhone, example, usable_deployment
from bisnesctl.cli.bots.group import bots
from bisnesctl.errors import BisnesError, Conflict

if TYPE_CHECKING:
    from bisnesctl.clients.session_linking import PairingCode, QrCode
    from bisnesctl.settings import Settings

#: Rows of the window below the QR code: the note, which may be wrapped, and the cursor.
ROWS_BELOW = 3
#: The way through WhatsApp's menus on a phone.
_MENU_PATH = "on the phone: WhatsApp → Linked devices → Link a device"


def _number(text: str | None) -> str | None:
    if text is None:
        return None
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 15):
        raise typer.BadParameter("a number in international form, such as 60123456789")
    return digits


@bots.command(
    epilog=example("bisnesctl bots link 0128 1", "bisnesctl bots link 0128 1 --pairing-code 60123456789"),
)
@changes
def link(
    company: TheCompany,
    phone: ThePhone = 0,
    pairing_code: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER", callback=_number, help="Show a code to type on the phone with this number instead."
        ),
    ] = None,
) -> None:
    """Show the QR code of a WhatsApp Web bot, and each new one, until a phone has scanned it.

    Starts the session if it does not run. Over HTTP: GET /api/sessions/0128/1/qr.
    """
    from bisnesctl.clients import session_linking
    from bisnesctl.clients.api_client import ApiClient, api_key, api_url
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = usable_deployment()
    _check_served(deployment.settings, company, phone)
    api = ApiClient(api_url(deployment.settings, deployment.mode), api_key(deployment.settings))
    output.say(f"waiting for the session of bot {phone} of company {company}")
    for step in session_linking.follow(api, company, phone, pairing_code):
        if isinstance(step, session_linking.LinkedPhone):
            output.say(f"[green]✓[/] linked{f': +{step.number}' if step.number else ''}")
        elif isinstance(step, session_linking.QrCode):
            _draw(step, company, phone)
        elif isinstance(step, session_linking.PairingCode):
            _print_code(step)
        else:
            output.say(escape(step.reason))


def _check_served(settings: "Settings", company: str, phone: int) -> None:
    """Raises `Conflict` if no process, here or on another machine, would start the session."""
    from bisnesctl.bots import causes
    from bisnesctl.database import postgres
    from bisnesctl.processes.extras import switched_off
    from bisnesctl.queue import targets

    with postgres.command_connection(settings) as connection:
        found = targets.find(connection, company, phone, "wwebjs")
        bots = causes.situations(connection, [each.id for each in found]).values()
    if any(each.no_worker for each in bots):
        step = switched_off("wwebjs", settings) or f"See `bisnesctl why {company}-{phone}`"
        raise Conflict(f"no process starts the session of bot {phone} of company {company}. {step}")


def _draw(step: "QrCode", company: str, phone: int) -> None:
    from rich.text import Text

    from bisnesctl.bots import qr_codes
    from bisnesctl.terminal import output

    code, console = qr_codes.drawn(step.text), output.out()
    columns, rows = len(code.splitlines()[0]), len(code.splitlines()) + ROWS_BELOW
    if console.width < columns or (console.is_terminal and console.height < rows):
        raise BisnesError(
            f"the QR code needs {columns} columns and {rows} rows, and this window has {console.width} and "
            f"{console.height}: enlarge it or use a smaller font, link with --pairing-code NUMBER, or fetch an image: "
            f"GET /api/sessions/{company}/{phone}/qr?format=png"
        )
    if console.is_terminal:
        console.clear()
    console.print(Text(code, "white on black" if console.is_terminal else ""), soft_wrap=True)
    output.say(f"scan it {_MENU_PATH}. A new code appears here when it changes; Ctrl-C ends")


def _print_code(step: "PairingCode") -> None:
    from bisnesctl.terminal import output

    output.result(step.code)
    output.say(f"type it {_MENU_PATH} → Link with phone number instead")
