"""The names of supervisord, of programs that others look for, and of a WhatsApp Web session in supervisord, logs and
files. Imports little; every session uses it.
"""

import hashlib
import re

#: The name of supervisord beside those of its programs.
SUPERVISORD = "supervisord"
#: The program that evaluates the signals, and its one instance.
ALERTS = "alerts"
#: The program of every session.
SESSION = "wwebjs-session"
#: Characters of the company's id in a name, at most: names are also file names.
_MAX_COMPANY_LENGTH = 80


def session_name(company: str, phone: int) -> str:
    """A unique name that is valid for supervisord and file systems; ordinary company ids stay readable."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", _escape, company)
    if len(safe) > _MAX_COMPANY_LENGTH:
        digest = hashlib.sha256(company.encode()).hexdigest()[:16]
        safe = f"{safe[: _MAX_COMPANY_LENGTH - 18]}~~{digest}"  # no escape has two tildes
    return f"{SESSION}-{safe}-{phone}"


def _escape(match: re.Match[str]) -> str:
    return "".join(f"~{byte:02x}" for byte in match[0].encode())
