"""Every command says whether it changes something, so that none is missing from the audit trail."""

import pytest
import typer

from bisnesctl.__main__ import load_commands
from bisnesctl.audit.commands import Effect, effect_of
from bisnesctl.cli.app import app


def commands(group, path=""):
    """All commands below a group: path → callback."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command.callback


@pytest.fixture(scope="module")
def all_commands():
    load_commands()
    return dict(commands(typer.main.get_command(app)))


def test_every_command_declares_its_effect(all_commands):
    undeclared = [name for name, callback in all_commands.items() if effect_of(callback) is None]
    assert undeclared == [], "each needs @changes, @reads or @sends of bisnesctl.audit.commands"


def test_commands_that_start_stop_or_configure_are_recorded(all_commands):
    recorded = {name for name, callback in all_commands.items() if effect_of(callback) is Effect.CHANGES}
    assert {"start", "stop", "restart", "rollback", "migrate", "init", "keys create", "bots add"} <= recorded
    assert not {"status", "send", "keys list", "audit"} & recorded
