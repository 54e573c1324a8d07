"""Simulates rollouts: how often the verdict is wrong, and how long it takes. `scripts/simulate-rollouts --help`.

A simulated rollout moves 10 %, 50 % and all of twenty bots. Each bot has its own share of the traffic, its own rate of
failures and its own latency. The verdict is asked every 15 seconds, and later each time that there are 10 % more
messages; a step ends with a verdict, or undecided after a day. Nothing but the verdict is simulated: no alarms.
"""

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate

from bisnesctl.rollout.records import BotRecord, Comparison, Outcomes, Ruling, latency_step
from bisnesctl.rollout.verdict import judge

#: Bots of a deployment.
BOTS = 20
#: The shares of the bots that are moved by the three steps.
STEPS = (0.1, 0.5, 1.0)
#: Seconds of the past that each bot is compared with.
PAST_SECONDS = 86400.0
#: Messages of the past of all bots, at most.
PAST_MESSAGES = 20_000.0
#: Seconds between two looks, at least.
LOOK_SECONDS = 15.0
#: The growth of the number of messages until the next look.
LOOK_GROWTH = 1.1
#: Seconds after which a step is undecided.
STEP_SECONDS = 86400.0
#: Seconds: the median latency of a usual bot, and the deviation of its logarithm.
LATENCY_SECONDS, LATENCY_DEVIATION = 0.4, 0.5
#: Latencies that are drawn in advance for each bot; outcomes draw from these.
LATENCY_DRAWS = 400


@dataclass(frozen=True)
class Scenario:
    """The truth that the verdict of a rollout should find."""

    name: str
    per_second: float  # messages of all bots
    failing: float = 0.01  # the share of failures of a usual bot
    failing_moved: float | None = None  # the same on the moved side; None: no difference
    slower: float = 1.0  # by which latencies of the moved side are longer
    bad_bots: int = 0  # bots of which 30 % fail before and after; the first of them is moved first
    probes_per_second: float = 0.0  # for each bot


@dataclass
class SimulatedBot:
    """One bot and its messages."""

    name: str
    per_second: float
    failing: float
    failing_moved: float
    steps: Sequence[int]  # latencies to draw from
    shift: int  # of latencies on the moved side
    moved: bool = False
    sent: int = 0
    failed: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    before: Outcomes = field(default_factory=Outcomes)

    def live(self, draw: random.Random, seconds: float) -> None:
        """Some seconds of traffic."""
        number = _poisson(draw, self.per_second * seconds)
        failed = _binomial(draw, number, self.failing_moved if self.moved else self.failing)
        shift = self.shift if self.moved else 0
        self.failed += failed
        self.sent += number - failed
        for step in draw.choices(self.steps, k=number - failed):
            self.latencies[step + shift] += 1

    @property
    def outcomes(self) -> Outcomes:
        """Its messages since the step began."""
        return Outcomes(self.sent, {"131026": self.failed} if self.failed else {}, dict(self.latencies))

    def begin(self, moved: bool) -> None:
        """A step begins. The time before its move stays the bot's past."""
        if not self.moved:
            self.before = self.outcomes if not self.before.share.whole else self.before
        self.moved = moved
        self.sent, self.failed, self.latencies = 0, 0, Counter()


@dataclass(frozen=True)
class Result:
    """How a rollout, or one step of it, ended."""

    ruling: Ruling
    seconds: float  # of the last step
    moved_messages: int  # of the last step
    step: int


def simulate(scenario: Scenario, seed: int) -> Result:
    """One rollout: it ends with the first step that does not pass."""
    draw = random.Random(f"{scenario.name} {seed}")
    bots = list(_bots(scenario, draw))
    probes = [replace(each, name=f"probe {each.name}", per_second=scenario.probes_per_second) for each in bots]
    for each in bots:
        each.live(draw, min(PAST_SECONDS, PAST_MESSAGES / scenario.per_second))
    result = Result(Ruling.PASS, 0.0, 0, 0)
    for number, share in enumerate(STEPS, start=1):
        for position, (each, probe) in enumerate(zip(bots, probes, strict=True)):
            each.begin(moved=position < round(share * BOTS))
            probe.begin(moved=position < round(share * BOTS))
        result = _step(scenario, draw, bots, probes, number)
        if result.ruling is not Ruling.PASS:
            break
    return result


def _step(
    scenario: Scenario, draw: random.Random, bots: list[SimulatedBot], probes: list[SimulatedBot], number: int
) -> Result:
    elapsed, pause = 0.0, LOOK_SECONDS
    while elapsed < STEP_SECONDS:
        for each in bots:
            each.live(draw, pause)
        if scenario.probes_per_second:
            for each in probes:
                each.live(draw, pause)
        elapsed += pause
        records = [_record(*each) for each in zip(bots, probes, strict=True)]
        moved = [record for record, bot in zip(records, bots, strict=True) if bot.moved]
        unmoved = [record for record, bot in zip(records, bots, strict=True) if not bot.moved]
        ruling = judge(Comparison(moved, unmoved)).ruling
        if ruling is not Ruling.HOLD:
            break
        pause = max(LOOK_SECONDS, elapsed * (LOOK_GROWTH - 1))
    return Result(ruling, elapsed, sum(each.now.share.whole for each in moved), number)


def _record(bot: SimulatedBot, probe: SimulatedBot) -> BotRecord:
    return BotRecord(bot.name, bot.outcomes, bot.before, probe.outcomes)


def _bots(scenario: Scenario, draw: random.Random) -> Iterator[SimulatedBot]:
    weights = [draw.lognormvariate(0, 0.5) for _ in range(BOTS)]
    for number, weight in enumerate(weights):
        bad = number % 5 == 0 and number // 5 < scenario.bad_bots
        failing = 0.3 if bad else scenario.failing
        moved = failing if bad or scenario.failing_moved is None else scenario.failing_moved
        median = LATENCY_SECONDS * draw.lognormvariate(0, 0.3)
        steps = [latency_step(median * draw.lognormvariate(0, LATENCY_DEVIATION)) for _ in range(LATENCY_DRAWS)]
        shift = latency_step(scenario.slower) - latency_step(1.0)
        yield SimulatedBot(f"0100/{number}", scenario.per_second * weight / sum(weights), failing, moved, steps, shift)


def _poisson(draw: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    number, left = 0, math.exp(-mean)
    product = draw.random()
    while product > left:
        number += 1
        product *= draw.random()
    return number


def _binomial(draw: random.Random, number: int, share: float) -> int:
    if number < 50:
        return sum(draw.random() < share for _ in range(number))
    if number * min(share, 1 - share) > 50:
        return min(number, max(0, round(draw.gauss(number * share, math.sqrt(number * share * (1 - share))))))
    terms = accumulate(
        math.exp(
            math.lgamma(number + 1) - math.lgamma(part + 1) - math.lgamma(number - part + 1)
            + part * math.log(share) + (number - part) * math.log1p(-share)
        )
        for part in range(min(number, 200) + 1)
    ) if 0 < share < 1 else iter([1.0 if share == 0 else 0.0])  # fmt: skip
    aim = draw.random()
    return next(
        (part for part, reached in enumerate(terms) if reached >= aim), min(number, 200) if share < 1 else number
    )


# --- The table -----------------------------------------------------------------------------------------------------

#: Messages a second of a deployment, by their words.
TRAFFIC = {"1/min": 1 / 60, "10/min": 1 / 6, "1/s": 1.0, "10/s": 10.0, "50/s": 50.0}


def scenarios(traffic: str) -> list[Scenario]:
    """The scenarios that are simulated with this traffic."""
    rate = TRAFFIC[traffic]
    return [
        Scenario("nothing is wrong", rate),
        Scenario("nothing is wrong, three bad bots", rate, bad_bots=3),
        Scenario("failures 1 % → 5 %", rate, failing_moved=0.05),
        Scenario("failures 0.2 % → 5 %", rate, failing=0.002, failing_moved=0.05),
        Scenario("everything fails", rate, failing_moved=1.0),
        Scenario("latency doubled", rate, slower=2.0),
    ]


def quiet_scenarios(traffic: str) -> list[Scenario]:
    """The same with probes, for deployments with little traffic."""
    return [
        replace(each, name=f"{each.name}, a probe a minute", probes_per_second=1 / 60)
        for each in scenarios(traffic)[:3]
    ]


def row(scenario: Scenario, results: Sequence[Result]) -> str:
    """A line of the table."""
    shares = Counter(each.ruling for each in results)
    decided = sorted(each.seconds for each in results if each.ruling is not Ruling.HOLD)
    typical = _words(decided[len(decided) // 2]) if decided else "-"
    slowest = _words(decided[len(decided) * 9 // 10]) if decided else "-"
    cells = [f"{shares[each] / len(results) * 100:.2f} %" for each in (Ruling.PASS, Ruling.FAIL, Ruling.HOLD)]
    messages = sorted(each.moved_messages for each in results if each.ruling is not Ruling.HOLD)
    return " | ".join([scenario.name, *cells, typical, slowest, str(messages[len(messages) // 2]) if messages else "-"])


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _run(job: tuple[Scenario, int]) -> Result:
    return simulate(*job)


def main(arguments: Sequence[str]) -> None:
    """Prints the table of docs/explanation/rollout.md."""
    parser = argparse.ArgumentParser(prog="scripts/simulate-rollouts", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000, help="rollouts of each scenario")
    parser.add_argument("--traffic", nargs="*", choices=TRAFFIC, default=list(TRAFFIC), help="messages of all bots")
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args(arguments)
    print("| traffic | what is true | passed | failed | undecided | last step, median | 90 % | moved messages |")
    print("|---|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(chosen.processes) as pool:
        for traffic in chosen.traffic:
            quiet = quiet_scenarios(traffic) if TRAFFIC[traffic] < 1 else []
            for scenario in (*scenarios(traffic), *quiet):
                jobs = [(scenario, seed) for seed in range(chosen.rollouts)]
                print(f"| {traffic} | {row(scenario, list(pool.map(_run, jobs, chunksize=20)))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
