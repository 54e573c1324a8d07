"""Marks the commands of the tool: each is declared with one of these decorators, below that of typer.

    @app.command(…)
    @changes
    def restart(names: Names) -> None: …

A command that changes something is recorded in the audit trail, however it ends. A call with `--dry-run` is not, nor
one that only shows something:

    @changes_if(lambda given: given["numbers"])
    def scale(numbers: Numbers = None) -> None: …

A test demands that every command is declared.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

_ATTRIBUTE = "effect"
#: The parameter in which typer passes the context of a recorded command.
_CONTEXT = "audit_context"
#: The parameter of commands that can say what they would do.
_DRY_RUN = "dry_run"


class Effect(Enum):
    """The effect of a command."""

    READS = "reads"
    CHANGES = "changes"
    SENDS = "sends"  # it only sends messages, which have a history of their own


def changes(command: Callable[P, R]) -> Callable[P, R]:
    """Declares a command that changes something. Each call is recorded."""
    return changes_if(lambda given: True)(command)


def changes_if(is_change: Callable[[Mapping[str, Any]], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same for a command that may only show something. `is_change`: whether a call with these values changes it."""

    def declare(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            context: Any = kwargs.pop(_CONTEXT)
            if kwargs.get(_DRY_RUN) or not is_change(kwargs):
                return command(*args, **kwargs)
            from bisnesctl.audit.recording import recording

            with recording(context):
                return command(*args, **kwargs)

        own = inspect.signature(command)
        context = inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        setattr(recorded, "__signature__", own.replace(parameters=[*own.parameters.values(), context]))  # noqa: B010
        recorded.__annotations__ = {**command.__annotations__, _CONTEXT: typer.Context}
        return _declared(recorded, Effect.CHANGES)

    return declare


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
