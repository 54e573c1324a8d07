"""Injected faults: rules that change how the simulator treats messages. Both networks have their own kind of rule."""

import threading
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class Rule(BaseModel):
    """The fields that all rules have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int | None = Field(None, ge=1, description="applies to this many messages; without it until it is deleted")


AnyRule = TypeVar("AnyRule", bound=Rule)


class RuleList(Generic[AnyRule]):
    """The rules in force, in the order in which they were added. Thread-safe; lost when the process ends."""

    def __init__(self, default: AnyRule) -> None:
        """`default`: the rule for messages that match no other."""
        self._default = default
        self._rules: list[AnyRule] = []
        self._lock = threading.Lock()

    def add(self, rule: AnyRule) -> None:
        """Append a rule: the first one that matches a message applies."""
        with self._lock:
            self._rules.append(rule)

    def all(self) -> list[AnyRule]:
        """The rules, each with the number of times that it has left."""
        return self._rules.copy()

    def clear(self) -> None:
        """Delete all rules."""
        with self._lock:
            self._rules.clear()

    def use_first(self, matches: Callable[[AnyRule], bool]) -> AnyRule:
        """Return the first rule that matches, and count the use. A rule that was used up is deleted."""
        with self._lock:
            for n, rule in enumerate(self._rules):
                if matches(rule):
                    if rule.times == 1:
                        del self._rules[n]
                    elif rule.times:
                        self._rules[n] = rule.model_copy(update={"times": rule.times - 1})
                    return rule
        return self._default
