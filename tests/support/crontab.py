#!/usr/bin/env python3
"""Stands in for `crontab` where cron is not installed: it keeps the table in the file that FAKE_CRONTAB names.

It knows `-l`, `-r` and `-`, refuses a table as Vixie's cron does, and says the same when there is none.
"""

import os
import re
import sys
from pathlib import Path

TABLE = Path(os.environ["FAKE_CRONTAB"])
FIELDS = re.compile(rb"\s*(@\w+|([\d*/,-]+\s+){5})\s*\S.*")
ASSIGNMENT = re.compile(rb"\s*[\w\"']+\s*=.*")


def main() -> int:
    match sys.argv[1:]:
        case ["-l"] if TABLE.exists():
            sys.stdout.buffer.write(TABLE.read_bytes())
            return 0
        case ["-l" | "-r"] if not TABLE.exists():
            return fail(f"no crontab for {os.environ.get('USER', 'root')}")
        case ["-r"]:
            TABLE.unlink()
            return 0
        case ["-"]:
            return install(sys.stdin.buffer.read())
    return fail("usage error: -l, -r or - must be given")


def install(table: bytes) -> int:
    if table and not table.endswith(b"\n"):
        return fail("new crontab file is missing newline before EOF, can't install.")
    for number, line in enumerate(table.splitlines()):
        if line.strip() and not line.strip().startswith(b"#") and not FIELDS.match(line) and not ASSIGNMENT.match(line):
            return fail(f'"-":{number}: bad minute\nerrors in crontab file, can\'t install.')
    TABLE.write_bytes(table)
    return 0


def fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
