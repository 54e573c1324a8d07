"""The Graph mock as a process, and the load generator as a call."""

import json
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench import usage
from tests.bench.figures import Arrival, parse_dump

#: How long the mock may take to start.
START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Load:
    """The results of the load generator; times in µs since the epoch, latencies of the 202s in milliseconds."""

    sent: int
    accepted: int
    refused: int
    broken: int
    reconnected: int
    started_us: int
    ended_us: int
    p50_ms: float
    p99_ms: float

    @property
    def accepted_per_second(self) -> float:
        return self.accepted / ((self.ended_us - self.started_us) / 1e6)


@dataclass(frozen=True, slots=True)
class Order:
    """The order for the load generator; rate 0: as fast as the answers allow."""

    count: int
    first: int  # the number of the first message
    connections: int
    rate: float = 0
    seconds: float = 120


def post(program: Path, port: int, order: Order) -> Load:
    """Post the order to an API on loopback. Raises RuntimeError when it could not even connect."""
    values = (port, order.connections, order.count, order.rate, order.seconds, order.first)
    done = subprocess.run([str(program), *map(str, values)], capture_output=True, text=True, timeout=order.seconds + 30)
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()}")
    load = Load(**json.loads(done.stdout))
    if load.refused or load.broken:
        print(f"  {load.refused} requests refused, {load.broken} broken. {done.stderr.strip()}")
    return load


class GraphMock:
    """The mock Graph API, running on a loopback port."""

    def __init__(self, program: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = psutil.Popen([str(program), str(port)])
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        end = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                self.count()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def count(self) -> int:
        """How many messages it took since the last reset."""
        return int(self._get("/_count"))

    def arrivals(self) -> list[Arrival]:
        """The messages that it took, in their order."""
        return parse_dump(self._get("/_dump"))

    def reset(self) -> None:
        """Forget what it took."""
        self._get("/_reset")

    def delay(self, milliseconds: float) -> None:
        """Delay the answers to sends from now on."""
        self._get(f"/_delay?ms={milliseconds}")

    def stop(self) -> None:
        """End the process."""
        usage.end([self._process])
