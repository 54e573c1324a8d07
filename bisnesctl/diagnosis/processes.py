"""The link of a process: its health, the guard's decision, and how it ended before."""

from bisnesctl.diagnosis.chain import Link, State
from bisnesctl.diagnosis.surroundings import Surroundings
from bisnesctl.formatting import duration
from bisnesctl.health import guard_file, next_steps
from bisnesctl.health.probes import Health, Status
from bisnesctl.logs import exits
from bisnesctl.processes import stop_records
from bisnesctl.processes.extras import program_of

_STATES = {
    Status.HEALTHY: State.OK,
    Status.OUTDATED: State.WARNS,
    Status.EXTRA: State.WARNS,
    Status.DEGRADED: State.WARNS,
    Status.STARTING: State.DELAYS,
    Status.STOPPING: State.DELAYS,
    Status.STOPPED: State.DELAYS,
}
#: The next step that happens by itself.
_NEXT = {
    Status.STARTING: "it is ready in a moment",
    Status.FAILING: "the guard starts it again",
    Status.UNHEALTHY: "if it hangs, the guard ends and restarts it",
}


def link(around: Surroundings, name: str) -> Link:
    """How the process of an instance is. `name`: the instance's."""
    health = around.health.get(name)
    if health is None:
        return Link(name, State.DELAYS, "it does not run, and the last start did not ask for it",
                    command=f"bisnesctl start --{around.deployment.mode} --only {name}")  # fmt: skip
    state = _STATES.get(health.status, State.BLOCKS)
    text = "; ".join(filter(None, (_text(around, name, health), _last_end(around, name))))
    program = program_of(name)
    steps = next_steps.commands(health.status, name, program.name if program else name, health.reason)
    first, then = (steps[0] if steps else ""), tuple(steps[1:])
    return Link(name, state, text, _NEXT.get(health.status, ""), first, then)


def wanted(around: Surroundings, name: str) -> str:
    """Whether it is to run, and who decided otherwise."""
    run_dir = around.deployment.settings.run_dir
    records = stop_records.read(run_dir)
    record = records.get(name)
    if around.deployment.was_stopped and around.deployment.failed_start is None:
        record = record or records.get(stop_records.EVERYTHING)
    if record is not None:
        return f"it stays stopped ({record.brief}) until somebody starts it"
    expected = {*around.health, *(each.name for each in around.deployment.expected())}
    return "it runs" if name in expected else "it does not run in this start"


def _text(around: Surroundings, name: str, health: Health) -> str:
    process = around.deployment.processes().get(name)
    if health.healthy and process is not None:
        return f"it works (pid {process.pid}), for {duration(process.uptime)}"
    record = stop_records.read(around.deployment.settings.run_dir).get(name)
    if health.status is Status.STOPPED and record is not None:
        return f"it is stopped on purpose ({record.brief})"
    return f"it is {health.status}{f': {health.reason}' if health.reason else ''}"


def _last_end(around: Surroundings, name: str) -> str:
    settings = around.deployment.settings
    ended = exits.read_exits(settings.log_dir / "supervisord.log").get(name)
    if ended is None or not ended.count:
        return ""
    how = guard_file.guard_status(around.deployment.processes(), settings).ends.get(name, "")
    often = "once" if ended.count == 1 else f"{ended.count} times"
    return f"it ended by itself {often}, last at {ended.at}: {how or ended.last}"
