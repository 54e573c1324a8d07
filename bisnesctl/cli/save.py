"""`bisnesctl save`: an answer for those who know it from PM2."""

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import SETUP, app, example


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl save"))
@reads
def save() -> None:
    """Say why nothing needs saving.

    `.env` and the folder `run` say at any time what is to run: the mode, the numbers of `scale`, the WhatsApp Web
    sessions, and what was stopped on purpose.
    """
    from bisnesctl.terminal import output

    output.say(
        "nothing needs saving: .env and the folder run always say what is to run; `bisnesctl start` starts it as it "
        "was started last, and `bisnesctl startup` does so at boot"
    )
