"""Words that the command line does not understand: each is answered in one line, if possible with what is meant."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from bisnesctl.terminal.habits import ANSWERS, HABITS, OPTION_ANSWERS, SIMILARITY

#: The words of the validator for a value that is no number.
_NO_NUMBER = re.compile(r"Input should be a valid (integer|number), unable to parse string as an? \w+")
#: Its name for a value that is not one of several.
_NO_CHOICE = "Value error, "


def unknown_command(word: str, commands: Sequence[str], path: str, is_root: bool) -> str:
    """The answer to an unknown command of the group at this path."""
    answer = ANSWERS.get(word.lower()) if is_root else None
    if answer is not None:
        return f"there is no command {word}: {answer.format(path=path)}"
    known = [*commands, "--version"] if is_root else commands
    habits = [each for each in HABITS.get(word, ()) if each in known]
    meant = habits or difflib.get_close_matches(word, commands, 2, SIMILARITY)
    hint = f"Did you mean {' or '.join(f'`{path} {each}`' for each in meant)}? " if meant else ""
    return f"there is no command {word}. {hint}`{path} --help` lists all"


def explain(error: Any) -> str:
    """The answer to a command line that typer's parser refused. `error`: its exception."""
    context = error.ctx
    path = context.command_path if context is not None else "bisnesctl"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return f"`{path}` has no option {option}{_hint(option, context)}; `{path} --help` lists all"
    text = " ".join(error.format_message().split()).replace(_NO_CHOICE, "").rstrip(".")
    text = _NO_NUMBER.sub("a whole number is needed", text)
    return f"{text[:1].lower()}{text[1:]}; `{path} --help` says more"


def _hint(option: str, context: Any) -> str:
    answers = OPTION_ANSWERS.get(context.info_name, {}) if context is not None else {}
    if option in answers:
        return f": {answers[option]}"
    known = [each for parameter in context.command.params for each in parameter.opts] if context is not None else []
    meant = difflib.get_close_matches(option, [each for each in known if each.startswith("--")], 2, SIMILARITY)
    return f", did you mean {' or '.join(meant)}?" if meant else ""
