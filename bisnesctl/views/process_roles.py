"""The role of a process of the operating system in its tree, in a word or two instead of its command line."""

import re
from collections.abc import Sequence
from pathlib import PurePath

#: A process of PostgreSQL says what it does: `postgres: checkpointer`.
_POSTGRES = re.compile(r"postgres: (?:\S+: )?(?P<role>.+)")
#: Chromium's own word for the kind of its process; a utility has one more.
_BROWSER_KIND = re.compile(r"--type=(?P<kind>[\w-]+)")
_BROWSER_UTILITY = re.compile(r"--utility-sub-type=(?:\w+\.mojom\.)?(?P<kind>\w+)")
_BROWSERS = re.compile(r"chrom(e|ium)(?!driver)")
_SHIM = "shim.py"
#: Characters of a role, at most.
MAX_ROLE_LENGTH = 40


def role(command: Sequence[str], parent: Sequence[str] = ()) -> str:
    """The role of a process with this command line. `parent`: the command line of its parent."""
    words = [word for word in " ".join(command).split(" ") if word]  # some processes set a title, which is one word
    if not words:
        return "?"
    found = _postgres(words) or _browser(words) or _python(words, command == parent) or PurePath(words[0]).name
    return found if len(found) <= MAX_ROLE_LENGTH else f"{found[: MAX_ROLE_LENGTH - 1]}…"


def without_shim(command: Sequence[str]) -> list[str]:
    """The command line that the shim runs, if it is the shim's; otherwise the same."""
    for place, word in enumerate(command):
        if PurePath(word).name == _SHIM:
            options = sum(each.startswith("--") for each in command[place + 1 : place + 2])
            return list(command[place + 2 + options :])  # after a time
    return list(command)


def _postgres(words: Sequence[str]) -> str:
    match = _POSTGRES.match(" ".join(words))
    return match["role"].strip() if match else ""


def _browser(words: Sequence[str]) -> str:
    if not _BROWSERS.match(PurePath(words[0]).name):
        return ""
    line = " ".join(words)
    kind = _BROWSER_UTILITY.search(line) or _BROWSER_KIND.search(line)
    return f"browser: {kind['kind']}" if kind else "browser"


def _python(words: Sequence[str], is_copy: bool) -> str:
    """The role of a Python program. `is_copy`: it has the command line of its parent, which it was forked from."""
    if not PurePath(words[0]).name.startswith("python"):
        return ""
    if any(PurePath(word).name == _SHIM for word in words):
        return "shim, inner" if is_copy else "shim"
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if module == "gunicorn" and is_copy:
        return "worker of gunicorn"
    script = next((word for word in words[1:] if not word.startswith("-")), words[0])
    name = module.rpartition(".")[2] or PurePath(script).name
    return f"{name}, forked" if is_copy else name
