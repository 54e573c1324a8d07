"""Proves that the release on the disk can run programs with the current settings, before anything is stopped.

A self-test is a process of its own that takes no work (`services.self_test`).
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bisnesctl.errors import StartFailed
from bisnesctl.host import process_environment
from bisnesctl.lifecycle.stop import Report
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Kind

#: Self-tests that run at the same time.
_PARALLEL = 2
#: Lines of the output that an error shows.
_LINES = 12


def prove(
    deployment: Deployment, instances: Sequence[Instance], report: Report, python: Path = Path(sys.executable)
) -> None:
    """Runs the self-test of each program of these instances. Raises `StartFailed` with the last lines of its output.

    `python`: the interpreter of the release. Infrastructure has none: it is not of the release, or works without what
    the release may break.
    """
    tested = {each.program.name: each for each in instances if each.program.kind is not Kind.INFRASTRUCTURE}
    if not tested:
        return
    report(f"self-test of {', '.join(tested)}")
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda each: _run(deployment, each, python), tested.values()))
    failed = {name: output for name, output in zip(tested, found, strict=True) if output}
    if failed:
        raise StartFailed("\n".join(_explain(name, output) for name, output in failed.items()))


def _run(deployment: Deployment, instance: Instance, python: Path) -> list[str]:
    """The output of a self-test that failed; empty if it passed."""
    limit = deployment.settings.start_timeout_seconds
    inherited = process_environment.read(deployment.supervisor_pid() or 0)
    try:
        done = subprocess.run(
            [str(python), "-m", "services.self_test", instance.program.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=deployment.settings.home,
            env={**inherited, **instance.environment},
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return [f"it took more than {limit:g} s"]
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return (lines or [f"it ended with exit status {done.returncode}"]) if done.returncode else []


def _explain(name: str, output: Sequence[str]) -> str:
    lines = [f"{name} fails its self-test, so nothing was restarted: {output[-1]}"]
    if len(output) > 1:
        lines += ["last lines of the self-test:", *(f"  {line}" for line in output[-_LINES:])]
    return "\n".join(lines)
