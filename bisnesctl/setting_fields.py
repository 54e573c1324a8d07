"""Fields of the settings: how they are declared, and how their values are read.

Small on purpose, since every process and every command reads the settings: a general validator takes eight megabytes of
each process, and a third of the time of a short command.
"""

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

#: Digits of a number, at most: Python reads no longer one.
MAX_DIGITS = 4300
_WHOLE_NUMBER = re.compile(r"[+-]?\d+(?:_\d+)*(?:\.0+)?")
_TRUE, _FALSE = frozenset({"1", "on", "t", "true", "y", "yes"}), frozenset({"0", "off", "f", "false", "n", "no"})
_ADDRESS_PATTERN = "^https?://"

T = TypeVar("T")


class SecretStr:
    """A text that masks itself when it is shown."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """The text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __str__(self) -> str:
        return "**********" if self._text else ""

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"


class InvalidValues(ValueError):
    """Values that are refused."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """`reasons`: field → the form that its value must have."""
        super().__init__("; ".join(f"{name}: {form}" for name, form in reasons.items()))
        self.reasons = dict(reasons)


@dataclass(frozen=True)
class Check:
    """Part of an annotated type: raises `ValueError` for a wrong value, or returns what it means."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class Reader:
    """Part of an annotated type: reads a value in place of the type's own reader."""

    function: Callable[[object], Any]


@dataclass(frozen=True)
class Limits:
    """Part of an annotated type, and of a field: limits of a number, or the pattern of a text."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    pattern: str | None = None

    def check(self, value: Any) -> None:
        """Raises `ValueError` with the wanted form."""
        if self.ge is not None and value < self.ge:
            raise ValueError(f"it must be {self.ge:g} or more")
        if self.gt is not None and value <= self.gt:
            raise ValueError(f"it must be greater than {self.gt:g}")
        if self.le is not None and value > self.le:
            raise ValueError(f"it must be {self.le:g} or less")
        if self.pattern is not None and not re.search(self.pattern, value):
            is_address = self.pattern.startswith(_ADDRESS_PATTERN)
            raise ValueError(
                "it must be an http:// or https:// address" if is_address else f"it must match {self.pattern}"
            )


@dataclass(frozen=True)
class FieldInfo:
    """One field: its default, its meaning, and what its values must be."""

    default: Any
    description: str
    limits: Limits
    #: The type without its checks.
    annotation: Any = None
    #: The checks of its type.
    checks: tuple[Check | Reader | Limits, ...] = ()

    def limit(self, name: Literal["ge", "gt", "le"]) -> float | None:
        """A limit of its numbers."""
        return next(
            (found for each in (self.limits, *self.checks) if (found := getattr(each, name, None)) is not None), None
        )

    def read(self, value: object) -> Any:
        """The meaning of a value, which may be text. Raises `ValueError` with the wanted form."""
        kind, is_optional = _without_none(self.annotation)
        reader = next((each.function for each in self.checks if isinstance(each, Reader)), None)
        if reader is None:
            if value is None and is_optional:
                return None
            reader = _reader_of(kind)
        found = reader(value)
        for each in (*self.checks, self.limits):
            if isinstance(each, Check):
                found = each.function(found)
            elif isinstance(each, Limits) and found is not None:
                each.check(found)
        return found


def Field(
    default: Any, *, description: str, ge: float | None = None, gt: float | None = None, le: float | None = None,
    pattern: str | None = None,
) -> Any:  # fmt: skip
    """Declares a field of a class with `collect`."""
    return FieldInfo(default, description, Limits(ge, gt, le, pattern))


def collect(declared: type) -> dict[str, FieldInfo]:
    """The fields that a class declares, in their order. They are removed from it, so that instances have the values."""
    found = {}
    for name, annotation in declared.__annotations__.items():
        info = declared.__dict__.get(name)
        if isinstance(info, FieldInfo):
            kind, checks = _parts(annotation)
            found[name] = FieldInfo(info.default, info.description, info.limits, kind, checks)
            delattr(declared, name)
    return found


def read(fields: Mapping[str, FieldInfo], values: Mapping[str, object]) -> dict[str, Any]:
    """The values of all fields, the defaults included. Raises `InvalidValues`."""
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name, field in fields.items():
        if name not in values:
            found[name] = field.default
            continue
        try:
            found[name] = field.read(values[name])
        except ValueError as error:
            refused[name] = _form(str(error))
    if refused:
        raise InvalidValues(refused)
    return found


def _form(message: str) -> str:
    if message.startswith("must "):
        return f"it {message}"
    return message[:1].lower() + message[1:]


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its checks, and these."""
    if get_origin(annotation) is Annotated:
        inner, *checks = get_args(annotation)
        kind, more = _parts(inner)
        return kind, (*more, *checks)
    kind, is_optional = _without_none(annotation)
    if is_optional and get_origin(kind) is Annotated:
        kind, checks_of_kind = _parts(kind)
        return kind | None, checks_of_kind
    return annotation, ()


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The type in `type | None`, and whether None is allowed."""
    if get_origin(annotation) is types.UnionType or type(None) in get_args(annotation):
        return next(each for each in get_args(annotation) if each is not type(None)), True
    return annotation, False


def _reader_of(kind: Any) -> Callable[[object], Any]:
    if get_origin(kind) is Literal:
        return lambda value: _choice(value, get_args(kind))
    return _READERS[kind]


def _choice(value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        *first, last = map(repr, choices)
        raise ValueError(f"it must be one of {', '.join(first)} or {last}")
    return str(value)


def _whole_number(value: object) -> int:
    if isinstance(value, int):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("it must be a whole number")
    if len(text) > MAX_DIGITS:
        raise ValueError("it must be a smaller number")
    return int(text.partition(".")[0])


def _number(value: object) -> float:
    try:
        found = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("it must be a number")
    return found


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("it must be true or false")
    return text in _TRUE


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a text")
    return value


def _path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(value))


def _secret(value: object) -> SecretStr:
    return value if isinstance(value, SecretStr) else SecretStr(_text(value))


_READERS: Mapping[Any, Callable[[object], Any]] = {
    int: _whole_number,
    float: _number,
    bool: _truth,
    str: _text,
    Path: _path,
    SecretStr: _secret,
}
