"""Runs the curl commands of a document, with other ports. `requests` stands in for curl."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.waiting import HANG_SECONDS

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(document: str) -> Iterator[str]:
    """Every curl command in the blocks of shell, in order; its lines joined, what it is piped into left out."""
    for block in _BLOCK.findall(document):
        for line in block.replace("\\\n", " ").splitlines():
            if line.lstrip().startswith("curl "):
                yield re.split(r"\s\|\s|\s&\s*$", line.strip())[0]


class Curl:
    """One command, read."""

    def __init__(self, command: str, variables: Mapping[str, str], folder: Path) -> None:
        """`variables`: what $NAME stands for; `folder`: where @file is looked for. KeyError for an unknown name."""
        words = iter(shlex.split(_expand(command, variables))[1:])
        self.method = ""
        self.url = ""
        self.headers: dict[str, str] = {}
        self.stream = False
        self._data: bytes | None = None
        self._files: list[tuple[str, Any]] = []
        self._folder = folder
        for word in words:
            self._read(word, words)

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
            next(words)
        elif word.startswith("-"):
            raise ValueError(f"{word} is not understood")
        else:
            self.url = word

    def _content(self, text: str) -> bytes:
        return (self._folder / text[1:]).read_bytes() if text.startswith("@") else text.encode()

    def _part(self, text: str) -> tuple[str, Any]:
        name, _, value = text.partition("=")
        if not value.startswith("@"):
            return name, (None, value)
        path, _, kind = value[1:].partition(";type=")
        return name, (Path(path).name, (self._folder / path).read_bytes(), *([kind] if kind else []))

    def run(self, ports: Mapping[int, int]) -> requests.Response:
        """Send it; `ports`: where the documented ports are in truth."""
        parts = urlsplit(self.url)
        url = self.url.replace(f":{parts.port}", f":{ports[parts.port or 80]}", 1)
        method = self.method or ("POST" if self._data is not None or self._files else "GET")
        headers = dict(self.headers)
        if self._data is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                url,
                headers=headers,
                data=self._data,
                files=self._files or None,
                stream=self.stream,
                timeout=HANG_SECONDS,
            )


def _expand(command: str, variables: Mapping[str, str]) -> str:
    """What the shell makes of $NAME outside of single quotes."""
    pieces = re.split(r"('[^']*')", command)
    return "".join(each if each.startswith("'") else Template(each).substitute(variables) for each in pieces)
