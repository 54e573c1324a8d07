"""Marks the commands of the tool: each is declared with one of these decorators, below that of typer.

    @app.command(…)
    @changes
    def restart(names: Names) -> None: …

A command that changes something is recorded in the audit trail, however it ends. A test demands that every command is
declared.
"""

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

_ATTRIBUTE = "effect"
#: The parameter in which typer passes the context of a recorded command.
_CONTEXT = "audit_context"


class Effect(Enum):
    """The effect of a command."""

    READS = "reads"
    CHANGES = "changes"
    SENDS = "sends"  # it only sends messages, which have a history of their own


def changes(command: Callable[P, R]) -> Callable[P, R]:
    """Declares a command that changes something. Each call is recorded."""

    @functools.wraps(command)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        from bisnesctl.audit.recording import recording

        context: Any = kwargs.pop(_CONTEXT)
        with recording(context):
            return command(*args, **kwargs)

    own = inspect.signature(command)
    context = inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    setattr(recorded, "__signature__", own.replace(parameters=[*own.parameters.values(), context]))  # noqa: B010
    recorded.__annotations__ = {**command.__annotations__, _CONTEXT: typer.Context}
    return _declared(recorded, Effect.CHANGES)


def reads(command: Callable[P, R]) -> Callable[P, R]:
    """Declares a command that changes nothing."""
    return _declared(command, Effect.READS)


def sends(command: Callable[P, R]) -> Callable[P, R]:
    """Declares a command that only sends messages."""
    return _declared(command, Effect.SENDS)


def effect_of(command: Callable[..., Any] | None) -> Effect | None:
    """The declared effect of a command; None if it is not declared."""
    return getattr(command, _ATTRIBUTE, None)


def _declared(command: Callable[P, R], effect: Effect) -> Callable[P, R]:
    setattr(command, _ATTRIBUTE, effect)
    return command
