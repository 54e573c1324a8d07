"""Stands in for curl in the documents' commands: the documented ports become those of the test's deployment.

Ids in answers are remembered as MESSAGE_ID and WEBHOOK_ID, which later commands name. `tests.acceptance.test_documents`
runs it as a program; the environment names the ports (DOCUMENT_PORTS, JSON) and the file of the ids
(DOCUMENT_VARIABLES).
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

#: Seconds for an answer, and for which a message that is still on its way is asked for again.
TIMEOUT_SECONDS = 60
#: Curl's exit code for an answer of 400 or above.
HTTP_ERROR = 22


class Curl:
    """One command, read."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words`: what follows `curl`. Raises ValueError for an option that is not known here."""
        self.method, self.url, self.headers = "", "", {}
        self.stream, self.output = False, ""
        self._data: bytes | None = None
        self._files: list[tuple[str, Any]] = []
        rest = iter(words)
        for word in rest:
            self._read(word, rest)

    def _read(self, word: str, words: Iterator[str]) -> None:
        if word in ("-s", "-sS", "--silent"):
            return
        if word in ("-N", "--no-buffer", "-sN"):
            self.stream = True
        elif word in ("-X", "--request"):
            self.method = next(words)
        elif word in ("-H", "--header"):
            name, _, value = next(words).partition(":")
            self.headers[name.strip()] = value.strip()
        elif word in ("-d", "--data", "--data-binary"):
            self._data = self._content(next(words))
        elif word in ("-F", "--form"):
            self._files.append(self._part(next(words)))
        elif word in ("-o", "--output"):
            self.output = next(words)
        elif word.startswith("-"):
            raise ValueError(f"{word} is not understood")
        else:
            self.url = word

    def _content(self, text: str) -> bytes:
        return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()

    def _part(self, text: str) -> tuple[str, Any]:
        name, _, value = text.partition("=")
        if not value.startswith("@"):
            return name, (None, value)
        path, _, kind = value[1:].partition(";type=")
        return name, (Path(path).name, Path(path).read_bytes(), *([kind] if kind else []))

    def run(self, ports: Mapping[str, int]) -> requests.Response:
        """Send it; `ports`: the real port of each documented one."""
        parts = urlsplit(self.url)
        url = self.url.replace(f":{parts.port}", f":{ports[str(parts.port)]}", 1)
        method = self.method or ("POST" if self._data is not None or self._files else "GET")
        headers = dict(self.headers)
        if self._data is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, url, headers=headers, data=self._data, files=self._files or None, stream=self.stream,
                timeout=TIMEOUT_SECONDS,
            )  # fmt: skip


def main() -> int:
    """Run the command line; returns the exit code."""
    command, ports = Curl(sys.argv[1:]), json.loads(os.environ["DOCUMENT_PORTS"])
    answer = _settled(command, ports)
    if command.stream:
        for line in answer.iter_lines():
            print(line.decode(), flush=True)
    elif command.output:
        Path(command.output).write_bytes(answer.content)
    else:
        print(answer.text)
    if answer.status_code >= 300:
        print(f"{shlex.join(sys.argv)}\n{answer.status_code} {answer.text}", file=sys.stderr)
        return HTTP_ERROR
    _remember(answer)
    return 0


def _settled(command: Curl, ports: Mapping[str, int]) -> requests.Response:
    """The answer; what concerns a message that is still on its way is asked for again."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        answer = command.run(ports)
        early = answer.status_code == 409 and answer.json()["code"] == "not_sent"
        if not early or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def _remember(answer: requests.Response) -> None:
    if "json" not in answer.headers.get("Content-Type", ""):
        return
    found = answer.json() if isinstance(answer.json(), dict) else {}
    ids = {"MESSAGE_ID": found.get("messageId"), "WEBHOOK_ID": found.get("webhook", {}).get("id")}
    with Path(os.environ["DOCUMENT_VARIABLES"]).open("a") as stream:
        stream.writelines(f"{name}={shlex.quote(value)}\n" for name, value in ids.items() if value)


if __name__ == "__main__":
    sys.exit(main())
