"""Runs pip-audit on files of pinned packages: `audit.py FILE...`. The exit status is 1 if a package is vulnerable."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Seconds for all requests of an audit together.
AUDIT_TIMEOUT_SECONDS = 300


def findings(report: dict[str, Any]) -> list[str]:
    """A line for each known vulnerability in a report of pip-audit."""
    return [
        f"{package['name']} {package['version']}: {each['id']}, fixed in {' and '.join(each['fix_versions']) or 'none'}"
        for package in report["dependencies"]
        for each in package.get("vulns", [])
    ]


def unaudited(report: dict[str, Any]) -> list[str]:
    """The packages of which the advisories are not known."""
    return [package["name"] for package in report["dependencies"] if "skip_reason" in package]


def main(files: list[str]) -> int:
    """Print the findings."""
    command = [
        str(Path(sys.executable).with_name("pip-audit")),
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
    ]
    for file in files:
        command += ["--requirement", file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_SECONDS, check=False)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        print("audit: skipped, because the advisories cannot be reached")
        return 0
    if missing := unaudited(report):
        print(
            f"audit: {len(missing)} of {len(report['dependencies'])} packages skipped, because no advisories are there"
        )
    for line in findings(report):
        print(f"audit: {line}")
    return 1 if findings(report) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
