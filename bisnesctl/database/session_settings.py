"""Settings of a PostgreSQL connection that are applied after it was made.

libpq sends `options`, such as `-c search_path=bots`, when a connection begins. Poolers such as PgBouncer refuse that,
or drop the options silently. So the options of a URL are taken apart and set by a statement instead.
"""

import re
from collections.abc import Mapping

_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)


def parse_options(options: str) -> tuple[dict[str, str], str]:
    """The settings in a server's command-line options, and the other options. A backslash escapes a blank."""
    found, others = {}, []
    words = iter(_WORD.findall(options))
    for word in words:
        value = next(words, "") if word == "-c" else word.removeprefix("-c").removeprefix("--")
        name, separator, text = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL).partition("=")
        if separator and word.startswith(("-c", "--")):
            found[name.replace("-", "_")] = text
        else:
            others.append(f"-c {value}" if word == "-c" else word)
    return found, " ".join(others)


def statement(session: Mapping[str, str]) -> tuple[str, list[str]]:
    """A statement that applies the settings and returns the server's process last, and its values."""
    calls = ", ".join("set_config(%s, %s, false)" for _ in session)
    return f"SELECT {calls}, pg_backend_pid()", [text for pair in session.items() for text in pair]
