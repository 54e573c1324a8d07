"""`bisnesctl init`: the settings file."""

from bisnesctl.cli.app import SETUP, app, example


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl init", "BISNES_ENV=/etc/bisnes/env bisnesctl init"))
def init() -> None:
    """Write `.env` with new secrets.

    The file has mode 0600 and a comment for each setting. An existing file is not changed. `start` writes the file too,
    if there is none.
    """
    from bisnesctl.lifecycle import preflight
    from bisnesctl.settings import env_path
    from bisnesctl.terminal import output

    path = env_path()
    preflight.write_env_file(path)
    output.say(f"wrote {path} with new secrets; next: [b]bisnesctl start --multiprocess --sandbox[/]")
