"""Texts to many bots of a deployment whose programs of both sides come and go: each is accepted by whichever answers.

`arrivals` says what became of them: each at most once, in the order of its chat, and how long the longest wait was.
"""

import collections
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import requests

from bisnesctl.encryption import encrypt_shared
from tests.support.deployment import Deployment, overtaken
from tests.support.waiting import HANG_SECONDS
from tests.support.web_deployment import WebDeployment

COMPANY = "0100"
#: Chats of each bot.
CHATS = 4


def add_bots(deployment: Deployment, count: int) -> None:
    """Meta numbers with the indexes from 0 on, at once."""
    key = deployment.settings.encryption_key.get_secret_value()
    values = ", ".join(
        f"('{COMPANY}', {index}, 'meta_direct', '10{COMPANY}{index}', '{encrypt_shared(key, 'sandbox-token')}')"
        for index in range(count)
    )
    deployment.rows(
        "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id,"
        f" meta_access_token_encrypted) VALUES {values}"
    )


def chat_of(bot: int, chat: int) -> str:
    """The digits of a chat."""
    return f"6017{bot:03}00{chat:02}"


def owners(deployment: Deployment) -> dict[str, int]:
    """How many bots each side serves."""
    return {str(side): count for side, count in deployment.rows(_OWNERS)}


def rollout_phase(deployment: Deployment) -> str:
    """The phase of the last rollout, without the cost of a command; empty if there is none."""
    return next((str(phase) for (phase,) in deployment.rows(_PHASE)), "")


_OWNERS = "SELECT COALESCE(owner, 'none'), count(*) FROM bot_pace GROUP BY 1"
_PHASE = "SELECT phase FROM rollout ORDER BY id DESC LIMIT 1"


class Arrival(NamedTuple):
    """A text that reached a provider."""

    chat: str
    at: float  # seconds since the epoch
    text: str
    accepted: bool


@dataclass
class Arrivals:
    """The texts that the providers received."""

    doubled: list[str] = field(default_factory=list)
    #: Texts that arrived after a later one of their chat although their outcome was always known.
    disordered: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    #: Seconds between the acceptance and the arrival of the text that waited longest.
    longest_wait: float = 0.0
    #: Seconds between two arrivals in a chat, at most.
    longest_gap: float = 0.0


class Writers:
    """Clients that post texts at a steady rate, in the order of each chat, and repeat each until it is accepted."""

    def __init__(self, deployment: Deployment, bots: Sequence[int], rate: float, threads: int = 10) -> None:
        self._deployment, self._bots = deployment, bots
        self._interval = threads / rate
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n, threads), daemon=True) for n in range(threads)]
        self.accepted: dict[str, float] = {}  # text → when, in seconds since the epoch
        self.wrong: list[str] = []
        #: A word that is added to the texts of these bots.
        self.words: dict[int, str] = {}

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _write(self, place: int, threads: int) -> None:
        own = [(bot, chat) for bot in self._bots for chat in range(CHATS)][place::threads]
        due = time.monotonic()
        for number in range(1_000_000):
            for bot, chat in own:
                due = max(due + self._interval, time.monotonic() - 1)
                if self._stopped.wait(max(due - time.monotonic(), 0)):
                    return
                self._post(bot, chat, f"{bot:03}/{chat:02}/{number:05} {self.words.get(bot, '')}".strip())

    def _post(self, bot: int, chat: int, text: str) -> None:
        settings = self._deployment.settings
        headers = {"X-Api-Key": self._deployment.key, "Idempotency-Key": text}
        body = {"message": text, "phoneIndex": bot}
        while True:
            for port in (settings.port, settings.api_port):
                url = f"http://127.0.0.1:{port}/api/v2/messages/text/{COMPANY}/{chat_of(bot, chat)}"
                try:
                    answer = requests.post(url, json=body, headers=headers, timeout=HANG_SECONDS)
                except requests.RequestException:
                    continue
                if answer.status_code == 202:
                    self.accepted[text] = time.time()
                    return
                if answer.status_code != 503:
                    self.wrong.append(f"{text}: {answer.status_code} {answer.text}")
                    return
            if self._stopped.wait(0.05):
                self.wrong.append(f"{text}: accepted by neither side at the end")
                return

    def arrivals(self) -> Arrivals:
        """The texts at the providers until now. One that a provider refused counts for the gaps alone."""
        found = Arrivals()
        own = {chat_of(bot, chat) for bot in self._bots for chat in range(CHATS)}
        by_chat: dict[str, list[Arrival]] = collections.defaultdict(list)
        for each in sorted(_received(self._deployment), key=lambda each: each.at):
            if each.chat in own:
                by_chat[each.chat].append(each)
        counts = collections.Counter(each.text for texts in by_chat.values() for each in texts if each.accepted)
        found.doubled = [text for text, count in counts.items() if count > 1]
        found.missing = set(self.accepted) - set(counts)
        may_be_late = {text.partition(" ")[0] for text in self._deployment.once_unknown()}
        for texts in by_chat.values():
            order = [each.text.partition(" ")[0] for each in texts if each.accepted]
            found.disordered += sorted(overtaken(order) - may_be_late)
            for before, after in itertools.pairwise(texts):
                found.longest_gap = max(found.longest_gap, after.at - before.at)
            for each in texts:
                found.longest_wait = max(found.longest_wait, each.at - self.accepted.get(each.text, each.at))
        return found


def _received(deployment: Deployment) -> Iterator[Arrival]:
    for each in deployment.requested():
        yield Arrival(each["to"], float(each["at"]), each["text"], bool(each["wamid"]))
    if not isinstance(deployment, WebDeployment):
        return
    for number in deployment.numbers.values():
        for each in deployment.arrived(number):
            for _ in range(each["arrivals"]):
                yield Arrival(each["chat"].partition("@")[0], float(each["at"]), each["body"], True)
