"""Drift: differences between the settings and the code on disk, and what runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bisnesctl import release
from bisnesctl.processes import scales, started_settings, switch_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.scales import BY_SCALE, Scale
from bisnesctl.processes.started_settings import SettingChange
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance
from bisnesctl.release import Release
from bisnesctl.settings import Settings, load_partly


@dataclass(frozen=True)
class Drift:
    """One difference."""

    #: The instances that it concerns.
    instances: list[str]
    #: The setting in capitals; `release` if it is the code.
    name: str
    #: The value that runs, and the configured one; None: a secret, or not known.
    running: str | None
    configured: str | None
    #: The difference as a sentence.
    text: str
    #: The command that ends it.
    step: str


def find(deployment: Deployment, instances: Iterable[Instance], processes: Mapping[str, Process]) -> list[Drift]:
    """All differences of these instances, those with the same text together."""
    if not any(each.pid for each in processes.values()):
        return []  # the next start uses the settings and the code on disk
    running = [(each, own.pid) for each in instances if (own := processes.get(each.name)) and own.pid]
    settings = deployment.settings
    changed: dict[SettingChange, list[Instance]] = {}
    for instance, pid in running:
        for change in started_settings.changes(settings, instance, pid):
            changed.setdefault(change, []).append(instance)
    found = [_of_setting(settings, change, concerned) for change, concerned in changed.items()]
    scaled = {each.program: each for each in scales.find(load_partly(settings.env_file).with_defaults())}
    return [
        *_of_counts(deployment, processes, scaled),
        *_of_scales(deployment, scaled.values()),
        *found,
        *_of_releases(settings, running),
    ]


def releases(settings: Settings, processes: Mapping[str, Process]) -> dict[str, Release]:
    """The releases that processes run, by the name of the instance, as far as they recorded them."""
    return {
        name: known
        for name, process in processes.items()
        if process.pid and (known := started_settings.running_release(settings, name, process.pid))
    }


def _of_setting(settings: Settings, change: SettingChange, instances: Sequence[Instance]) -> Drift:
    names = [each.name for each in instances]
    source = _source(settings, change)
    if change.configured is None:
        text = f"{_subject(names)} with another {change.name} than {source.removesuffix(' says')} has"
    elif change.running is None:
        text = f"{_subject(names)} with another {change.name}; {source} {_shown(change.configured)}"
    else:
        text = f"{_subject(names)} with {change.name}={_shown(change.running)}, {source} {_shown(change.configured)}"
    return Drift(names, change.name, change.running, change.configured, text, _restart(instances))


def _source(settings: Settings, change: SettingChange) -> str:
    """The source of the value of now: `.env says`, `the environment says` or `the default is`."""
    if not settings.is_given(change.name.lower()):
        return "the default is" if change.configured is not None else "the default"
    return f"{Path(change.origin).name if change.origin.startswith('/') else change.origin} says"


def _of_scales(deployment: Deployment, scaled: Iterable[Scale]) -> list[Drift]:
    """Programs whose number `bisnesctl scale` set, if the settings have another one."""
    found = []
    for each in scaled:
        names = [own.name for own in deployment.expected() if own.program.name == each.program]
        if each.drift and names:
            setting = str(scales.find_program(each.program).instances).upper()
            text = f"`scale` set {setting}={each.wanted}, the settings say {each.configured}"
            step = f"bisnesctl scale {each.program}=default"
            found.append(Drift(names, setting, str(each.wanted), str(each.configured), text, step))
    return found


def _of_counts(deployment: Deployment, processes: Mapping[str, Process], scaled: Mapping[str, Scale]) -> list[Drift]:
    """Programs of which more or fewer instances run than the settings have."""
    found = []
    for program in dict.fromkeys(each.program for each in deployment.expected()):
        if program.instances is None:
            continue
        names = [each.name for each in deployment.known(processes) if each.program is program]
        present = [name for name in names if name in processes and processes[name].state != "STOPPED"]
        known = [name for name in names if name in processes]
        wanted = int(getattr(deployment.settings, program.instances))
        if wanted in (len(present), len(known)):
            continue
        change = SettingChange(
            program.instances.upper(), str(len(present)), str(wanted), deployment.settings.origin(program.instances)
        )
        verb = "instance of {} runs" if len(present) == 1 else "instances of {} run"
        source, step = _source(deployment.settings, change), f"bisnesctl restart {program.name}"
        if scaled[program.name].origin == BY_SCALE:
            source, step = "`scale` set", f"bisnesctl scale {program.name}={wanted}"
        text = f"{len(present)} {verb.format(program.name)}, {source} {change.name}={wanted}"
        found.append(Drift(present, change.name, change.running, change.configured, text, step))
    return found


def _of_releases(settings: Settings, running: Sequence[tuple[Instance, int]]) -> list[Drift]:
    """Processes of another release than the files on disk."""
    installed = release.installed()
    older: dict[Release, list[Instance]] = {}
    for instance, pid in running:
        own = started_settings.running_release(settings, instance.name, pid)
        if own is not None and own != installed:
            older.setdefault(own, []).append(instance)
    switch = switch_records.read(settings.home)
    return [
        Drift(
            names := [each.name for each in instances],
            "release",
            str(own),
            str(installed),
            f"{_subject(names)} with release {own}, {'current' if installed.number else 'installed'} is {installed}",
            "bisnesctl release list" if switch else f"bisnesctl reload {_programs(instances)}",
        )
        for own, instances in older.items()
    ]


def _subject(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'runs' if len(names) == 1 else 'run'}"


def _restart(instances: Sequence[Instance]) -> str:
    return f"bisnesctl restart {_programs(instances)}"


def _programs(instances: Sequence[Instance]) -> str:
    return " ".join(dict.fromkeys(each.program.name for each in instances))


def _shown(value: str) -> str:
    return value or '""'
