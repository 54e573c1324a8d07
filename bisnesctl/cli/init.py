"""`bisnesctl init`: the settings file."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import SETUP, app, example
from bisnesctl.errors import Conflict


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl init", "BISNES_ENV=/etc/bisnes/env bisnesctl init"))
@changes
def init() -> None:
    """Write `.env` with new secrets.

    The file has mode 0600 and a comment for each setting. An existing file is not changed. `start` writes the file too,
    if there is none. If DATABASE_URL is in the environment and its database has stored credentials, ENCRYPTION_KEY
    stays empty: enter the key of the system that stored them.
    """
    from bisnesctl.lifecycle import env_creation
    from bisnesctl.settings import env_path, load_partly
    from bisnesctl.terminal import output

    path = env_path()
    if path.exists():
        raise Conflict(f"{path} exists already and is not changed: edit it, or move it first")
    env_creation.create_env_file(load_partly(), output.say)
    output.say("next: [b]bisnesctl start --multiprocess --sandbox[/]")
