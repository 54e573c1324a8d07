"""`bisnesctl init`: the settings file."""

from bisnesctl.cli.app import SETUP, app, example


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl init", "BISNES_ENV=/etc/bisnes/env bisnesctl init"))
def init() -> None:
    """Write `.env` with secrets of its own.

    The file gets mode 0600 and a comment for every setting. One that exists is left as it is. `start` does this by
    itself where there is no file.
    """
    from bisnesctl.lifecycle import env_file
    from bisnesctl.settings import env_path
    from bisnesctl.terminal import output

    path = env_path()
    env_file.write(path)
    output.say(f"wrote {path}, with secrets of its own; next: [b]bisnesctl start --multiprocess --sandbox[/]")
