"""`python -m tests.bench`: the command line of the benchmark."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from tests.bench import claim as claims
from tests.bench import growth as sizes
from tests.bench import report, web_compare
from tests.bench import rest as resting
from tests.bench import web as web_sessions
from tests.bench.measure import Measured, Plan, measure
from tests.bench.sides import Ours, Peer, Side
from tests.bench.stage import Stage, stage
from tests.bench.tools import MissingTool

T = TypeVar("T")


class SideName(StrEnum):
    """The sides that can be measured."""

    OURS = "ours"
    PEER = "peer"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
#: Progress goes to the error output, so that `--json -` can be piped.
progress = Console(stderr=True)

Quick = Annotated[bool, typer.Option("--quick", help="One small round, in a minute.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all as JSON; - prints it.")]


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    quick: Quick = False,
    json: Json = None,
    side: Annotated[list[SideName] | None, typer.Option(help="Both unless named.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds of each side, in turn.")] = 3,
    messages: Annotated[int, typer.Option(min=100, max=200_000, help="Of the saturated run.")] = 10_000,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Kept-alive connections.")] = 32,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Messages/s of the latency run.")] = 50,
    graph_delay: Annotated[float, typer.Option(min=0, max=1000, help="Milliseconds of Graph.")] = 0,
    api_instances: Annotated[int, typer.Option(min=1, max=8, help="Ours: API_INSTANCES.")] = 1,
    meta_instances: Annotated[int, typer.Option(min=1, max=8, help="Ours: META_INSTANCES.")] = 1,
    peer_cluster: Annotated[int, typer.Option(min=1, max=8, help="Peer: web processes.")] = 1,
    peer_concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Peer: jobs in hand.")] = 10,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKOUT", help="Another checkout of ours in the peer's place.")
    ] = None,
) -> None:
    """Compare us with a peer of the original design (Node: Express, BullMQ, pg), or with another version of us.

    `--against` takes a checkout in which `scripts/provision` has run; each version migrates its own database.

    Example: scripts/bench --rounds 5 --graph-delay 50 --json figures.json

    Example: scripts/bench --rounds 5 --against ../before
    """
    if context.invoked_subcommand:
        return
    wanted = side or list(SideName)
    plan = Plan(messages, connections=connections, rate=rate, graph_delay_ms=graph_delay)
    if quick:
        plan = Plan(2000, 500, connections, rate, 3, low_rate_seconds=4, distant_messages=300)
        plan, rounds = replace(plan, graph_delay_ms=graph_delay), 1
    if graph_delay:  # the provider is slow in all runs
        plan = replace(plan, distant_delay_ms=0)
    with stage() as ready:
        sides: list[Side] = []
        if SideName.OURS in wanted:
            sides.append(Ours(ready.folder, api_instances, meta_instances))
        if against:
            python = virtual_python(against)
            sides.append(Ours(ready.folder, api_instances, meta_instances, name="before", python=python))
        elif SideName.PEER in wanted:
            sides.append(Peer(ready.folder, peer_cluster, peer_concurrency))
        about = ready.describe()
        progress.print(", ".join(f"{name} {value}" for name, value in about.items()))
        found = play(sides, ready, plan, rounds)
    report.show(Console(stderr=json is not None and str(json) == "-"), found, plan)
    if json:
        report.write_json(json, report.describe(found, plan, about))


def virtual_python(checkout: Path) -> Path:
    """The interpreter in a checkout's virtual environment. Raises RuntimeError if there is none."""
    python = checkout.absolute() / ".venv/bin/python"
    if not python.exists():
        raise RuntimeError(f"{python} does not exist: run {checkout}/scripts/provision first")
    return python


def in_order_of_round(sides: Sequence[T], turn: int) -> Sequence[T]:
    """The sides in the order of a round: A B, then B A, so that a drift of the machine favours neither."""
    return sides if turn % 2 == 0 else sides[::-1]


def play(sides: list[Side], ready: Stage, plan: Plan, rounds: int) -> dict[str, list[Measured]]:
    """Measure the sides in turn."""
    found: dict[str, list[Measured]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in in_order_of_round(sides, turn):
            with progress.status(f"round {turn + 1} of {rounds}: {side.name}"):
                measured = measure(side, ready, plan)
            found[side.name].append(measured)
            figures = measured.figures
            progress.print(
                f"round {turn + 1} {side.name}: {figures['sent_per_second']:,.0f} messages/s, "
                f"p99 {figures['latency_p99_ms']:.1f} ms, {figures['cpu_all_per_1000']:.2f} CPU s / 1,000"
            )
    return found


@app.command()
def claim(
    quick: Quick = False,
    json: Json = None,
    batches: Annotated[int, typer.Option(min=5, max=2000, help="Batches of each operation.")] = 100,
) -> None:
    """Measure accept, claim and record while a million messages wait, 200,000 of a held chat in front.

    Example: scripts/bench claim
    """
    fillings = claims.QUICK_FILLINGS if quick else claims.FILLINGS
    with stage() as ready, progress.status("filling the outbox and claiming from it"):
        found = claims.measure_claims(ready, batches, fillings)
    report.show_claims(Console(stderr=json is not None and str(json) == "-"), found)
    if json:
        report.write_json(json, claims.describe(found))


@app.command()
def rest(
    quick: Quick = False,
    json: Json = None,
    side: Annotated[list[SideName] | None, typer.Option(help="Both unless named.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds of each side, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=5, max=600, help="Of each round.")] = 60,
    whole: Annotated[bool, typer.Option("--whole", help="Also a whole deployment with the defaults.")] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKOUT", help="Another checkout of ours in the peer's place.")
    ] = None,
) -> None:
    """Measure what everything costs while nothing happens, and how quickly commands of the tool answer.

    Example: scripts/bench rest --rounds 3 --whole
    """
    wanted = side or list(SideName)
    if quick:
        rounds, seconds = 1, min(seconds, 10)
    with stage() as ready, progress.status("starting") as status:
        sides: list[Side] = [Ours(ready.folder)] if SideName.OURS in wanted else []
        if against:
            sides.append(Ours(ready.folder, name="before", python=virtual_python(against)))
        elif SideName.PEER in wanted:
            sides.append(Peer(ready.folder))
        if whole:
            sides.append(resting.whole_deployment(ready))
        found = resting.measure(sides, ready, rounds, seconds, status.update)
        commands = resting.measure_commands(Path(sys.executable), ready.folder)
    report.show_rest(Console(stderr=json is not None and str(json) == "-"), found, commands)
    if json:
        sides_found = {name: [asdict(each) for each in rounds] for name, rounds in found.items()}
        report.write_json(json, {"machine": report.machine(), "sides": sides_found, "commands": commands})


@app.command()
def growth(
    quick: Quick = False,
    json: Json = None,
    batches: Annotated[int, typer.Option(min=5, max=2000, help="Batches of each size.")] = 100,
) -> None:
    """Measure a message with few and many bots, queued messages, stored webhooks, and companies with webhooks.

    Example: scripts/bench growth
    """
    states = sizes.QUICK_STATES if quick else sizes.STATES
    with stage() as ready, progress.status("filling the database and sending through it"):
        found = sizes.measure_growth(ready, batches, states)
    report.show_growth(Console(stderr=json is not None and str(json) == "-"), found)
    if json:
        report.write_json(json, sizes.describe(found))


@app.command()
def web(
    quick: Quick = False,
    json: Json = None,
    sessions: Annotated[int, typer.Option(min=1, max=20, help="For the memory of several.")] = 5,
    messages: Annotated[int, typer.Option(min=10, max=5000, help="While everything is killed.")] = 500,
    peer: Annotated[bool, typer.Option("--peer", help="Compare a session with wppconnect instead.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="The same figures as --peer, of ours only.")] = False,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Of --peer and --alone.")] = 3,
) -> None:
    """Measure WhatsApp Web sessions: start, memory, latency, recovery, and Meta's latency while they are killed.

    Example: scripts/bench web --sessions 5

    Example: scripts/bench web --peer
    """
    if peer or alone:
        compare_web(web_compare.ComparePlan(1, 60, 20) if quick else web_compare.ComparePlan(rounds), peer, json)
        return
    plan = web_sessions.Plan(2, 1, 10, 2, 60) if quick else web_sessions.Plan(sessions, messages=messages)
    with progress.status("starting") as status:
        found = web_sessions.measure(plan, status.update)
    report.show_web(Console(stderr=json is not None and str(json) == "-"), found)
    if json:
        report.write_json(json, found.as_dict())


def compare_web(plan: web_compare.ComparePlan, with_peer: bool, json: Path | None) -> None:
    """Compare a session of ours with wppconnect on the same page."""
    with progress.status("starting") as status, web_sessions.deployed(rate=web_compare.UNLIMITED_RATE) as deployment:
        found = web_compare.compare(deployment, plan, status.update, with_peer)
    report.show_web_comparison(Console(stderr=json is not None and str(json) == "-"), found.medians())
    if json:
        report.write_json(json, {"medians": found.medians(), "rounds": found.rounds})


def main() -> None:
    """Run the command; a stop by SIGTERM clears up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(prog_name="scripts/bench")
    except (MissingTool, RuntimeError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
