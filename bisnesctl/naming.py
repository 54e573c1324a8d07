"""What a WhatsApp Web session is called, wherever it appears. Imports nothing, since every session needs it."""

import hashlib
import re

#: The program of every session.
SESSION = "wwebjs-session"
#: Characters of a company's id that a name has at most; log files and heartbeats are called by it.
_COMPANY_LENGTH = 80


def session_name(company: str, phone: int) -> str:
    """A name that supervisord and file systems take, different for every number; ordinary ids stay readable."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", _escape, company)
    if len(safe) > _COMPANY_LENGTH:
        digest = hashlib.sha256(company.encode()).hexdigest()[:16]
        safe = f"{safe[: _COMPANY_LENGTH - 18]}~~{digest}"  # no escape has two tildes
    return f"{SESSION}-{safe}-{phone}"


def _escape(match: re.Match[str]) -> str:
    return "".join(f"~{byte:02x}" for byte in match[0].encode())
