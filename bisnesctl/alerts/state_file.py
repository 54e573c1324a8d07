"""The evaluator's state in `run/alerts.json`, which outlives a SIGKILL. `bisnesctl alerts list` reads it as well."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from bisnesctl.alerts.deliveries import Notice, Sending, TargetRecord
from bisnesctl.alerts.incidents import Incident, Severity, Stage
from bisnesctl.host import disk

#: The file, below `run_dir`.
STATE_FILE = "alerts.json"

log = structlog.get_logger()


@dataclass(frozen=True)
class AlertState:
    """All that the evaluator must remember."""

    incidents: tuple[Incident, ...] = ()
    #: By the key of the target.
    targets: Mapping[str, TargetRecord] = field(default_factory=dict)
    #: When the signals were evaluated last, in seconds since the epoch; 0: never.
    evaluated_at: float = 0.0
    #: The signals that could not be measured then, with the reasons.
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    #: Why the settings name no usable target; empty if they do.
    problem: str = ""


def write(run_dir: Path, state: AlertState) -> None:
    """Writes the file as a whole, or not at all. Raises `OSError`."""
    disk.refresh(run_dir / STATE_FILE, json.dumps({"pid": os.getpid(), **asdict(state)}).encode())


def read(run_dir: Path) -> AlertState:
    """The state; an empty one if there is no file, or it is damaged, which is logged."""
    try:
        found = json.loads((run_dir / STATE_FILE).read_text())
        return AlertState(
            tuple(_incident(each) for each in found["incidents"]),
            {key: _target(each) for key, each in found["targets"].items()},
            float(found["evaluated_at"]),
            dict(found["unmeasured"]),
            str(found["problem"]),
        )
    except FileNotFoundError:
        return AlertState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("alerts.state_damaged", file=str(run_dir / STATE_FILE), reason=str(error))
        return AlertState()


def _incident(found: dict[str, Any]) -> Incident:
    return Incident(**{**found, "severity": Severity(found["severity"]), "stage": Stage(found["stage"])})


def _target(found: dict[str, Any]) -> TargetRecord:
    sending = found["sending"]
    return TargetRecord(
        **{
            **found,
            "notices": _notices(found["notices"]),
            "sending": None if sending is None else Sending(**{**sending, "news": _notices(sending["news"])}),
        }
    )


def _notices(found: dict[str, Any]) -> dict[str, Notice]:
    return {
        name: Notice(Stage(each["stage"]), Severity(each["severity"]), float(each["at"]))
        for name, each in found.items()
    }
