"""`bisnesctl bots rotate-secret`: replaces the secret of a 360dialog number's webhooks."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import TheCompany, ThePhone, example
from bisnesctl.cli.bots.group import bots


@bots.command("rotate-secret", epilog=example("bisnesctl bots rotate-secret 0128 1"))
@changes
def rotate_secret(company: TheCompany, phone: ThePhone = 0) -> None:
    """Replace the secret by which the webhooks of a 360dialog number are recognised, here and at 360dialog.

    The former secret is accepted for another hour, because webhooks are on their way. No secret is shown.
    """
    from bisnesctl.bots import secret_rotation
    from bisnesctl.database import postgres
    from bisnesctl.lifecycle import preflight
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    settings = open_deployment().settings
    preflight.check_secrets(settings)
    secret_rotation.rotate(lambda: postgres.command_connection(settings), settings, company, phone)
    output.say(f"bot {phone} of company {escape(company)} has a new secret; the former one is accepted for an hour")
