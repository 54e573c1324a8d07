"""`docs/reference/settings.md`: every setting, in the order and under the headings of `conf/env.example`."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from markdown_table import table

from bisnesctl import paths
from bisnesctl.setting_fields import FieldInfo, SecretStr
from bisnesctl.setting_types import NO_LIMIT
from bisnesctl.settings import Settings

INTRODUCTION = """\
# Settings

Every setting of `.env`, with its default and its limits.

`bisnesctl init` writes `.env` from [`conf/env.example`](../../conf/env.example), which comments on every setting. \
Environment variables override the file. The variable `BISNES_ENV` names another file than `./.env`. An empty value \
means the default.

After a change, run `bisnesctl restart` with the names of the programs that use the setting, or stop and start \
everything. A setting with a wrong value is reported with its name, its origin and what is allowed \
([exit code](exit-codes.md) 3). It stops only the commands that need the setting: `status`, `stop` and `logs` always \
work. `rollback`, and processes that are started again, use the default of a wrong number.

## How to write a value

| line | value |
| --- | --- |
| `NAME=value` | the rest of the line, without blanks at its ends |
| `NAME='value'` | everything between the quotes, as it stands |
| `NAME="value"` | the same, but `\\"` means `"`, and two backslashes mean one |

Nothing is replaced: `${…}` is an error outside of single quotes. `#` after a blank begins a comment after a number; \
after a text it is an error, because it might belong to the value. If a setting occurs twice, the last line counts.

The file may have settings of other programs. A name that looks like a misspelt setting is reported: one that differs \
in underscores, or in one word by a plural, an abbreviation or a typing error, and any unknown name that begins with \
`BISNES_`.
"""

#: Limits of numbers, and how they read.
LIMITS: dict[Literal["ge", "gt", "le"], str] = {"ge": "at least", "gt": "more than", "le": "at most"}


def render() -> str:
    """The page."""
    return "\n".join([INTRODUCTION, *(_section(title, names) for title, names in _sections())])


def _sections() -> Iterator[tuple[str, list[str]]]:
    text = (paths.shipped_folder("conf") / "env.example").read_text("utf-8")
    for part in re.split(r"^# --- ", text, flags=re.MULTILINE)[1:]:
        yield part.partition(" ---")[0], re.findall(r"^([A-Z0-9_]+)=", part, re.MULTILINE)


def _section(title: str, names: list[str]) -> str:
    rows = [_row(name, Settings.model_fields[name.lower()]) for name in names]
    return f"## {title}\n\n{table(('setting', 'default', 'meaning', 'allowed'), rows)}\n"


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    if name.startswith("QUOTA_"):
        default = NO_LIMIT if field.default is None else field.default
        return f"`{name}`", f"`{default}`", field.description or "", f"at least 0, `{NO_LIMIT}`"
    return f"`{name}`", _default(field.default), field.description or "", _allowed(field)


def _default(default: Any) -> str:
    if default in (None, "", SecretStr("")):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _allowed(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "`true`, `false`"
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(each, str) for each in choices):
        return ", ".join(f"`{each}`" for each in choices)
    limits = {words: limit for name, words in LIMITS.items() if (limit := field.limit(name)) is not None}
    return ", ".join(f"{words} {limit}" for words, limit in limits.items())
