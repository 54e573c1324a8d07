"""The form that a refused value must have, in the words of the settings instead of those of the validator."""

from collections.abc import Mapping
from typing import Any

from bisnesctl import masking

#: Characters of a refused value that are shown, at most.
MAX_VALUE_LENGTH = 60

#: The kind of an error → the wanted form; the names in braces are the validator's.
_FORMS = {
    "int_parsing": "it must be a whole number",
    "int_parsing_size": "it must be a smaller number",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "finite_number": "it must be a number",
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "greater_than": "it must be greater than {gt:g}",
    "greater_than_equal": "it must be {ge:g} or more",
    "less_than": "it must be less than {lt:g}",
    "less_than_equal": "it must be {le:g} or less",
    "literal_error": "it must be one of {expected}",
    "string_pattern_mismatch": "it must match {pattern}",
    "string_too_short": "it must have {min_length} characters or more",
    "string_too_long": "it must have {max_length} characters or less",
}


def wanted_form(error: Mapping[str, Any]) -> str:
    """The form that a value must have, for an error of the validator."""
    context = dict(error.get("ctx") or {})
    pattern = str(context.get("pattern", ""))
    if pattern.startswith("^https?://"):
        return "it must be an http:// or https:// address"
    form = _FORMS.get(error["type"])
    if form is not None:
        return form.format(**context)
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"it {message}" if message.startswith("must ") else message[:1].lower() + message[1:]


def shown_value(value: str) -> str:
    """A refused value for people, without credentials."""
    masked = masking.text(value)
    return repr(masked if len(masked) <= MAX_VALUE_LENGTH else f"{masked[:MAX_VALUE_LENGTH]}…")
