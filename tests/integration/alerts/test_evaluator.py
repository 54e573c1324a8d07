"""The evaluator with real senders: Apprise over HTTP and SMTP, and a command."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bisnesctl.alerts import silences, state_file
from bisnesctl.alerts.evaluator import Evaluator
from bisnesctl.alerts.silences import Silence
from bisnesctl.alerts.state_file import AlertState
from bisnesctl.database.process_events import ProcessEvent
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.signals.signal import BROKEN, FINE, Reading, Readings
from bisnesctl.signals.table import BY_NAME
from tests.support.processes.servers import settings_in
from tests.support.remote.alert_receiver import AlertReceiver, MailReceiver, Received
from tests.support.waiting import wait_until


@dataclass
class Scene:
    """An evaluator whose readings the test chooses. Each step is an evaluation, and the deliveries that follow."""

    folder: Path
    variables: dict[str, str]
    values: list[Reading] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)
    events: list[ProcessEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new evaluator takes over, as after a SIGKILL of the one before."""
        settings = settings_in(self.folder, ALERT_RESOLVE_SECONDS="0", **self.variables)
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        self.deployment = Deployment(settings, Supervisor(settings.run_dir))
        state = state_file.read(settings.run_dir)
        self.evaluator = Evaluator(lambda deployment: self, BY_NAME, state, self.events.append)  # type: ignore[arg-type,return-value]

    def step(self, *readings: Reading, times: int = 1) -> "Scene":
        """Evaluates these readings."""
        self.values = list(readings)
        for _ in range(times):
            self.evaluator.evaluate(self.deployment)
            self.deliver()
        return self

    @property
    def readings(self) -> Readings:
        """The readings of a measurement, in whose place this scene stands."""
        return Readings(self.values, self.unmeasured)

    def deliver(self) -> None:
        self.evaluator.deliver(self.deployment.settings, "/srv/bisnes")

    def settle(self) -> None:
        """Waits until no message is on its way."""

        def is_idle() -> bool:
            self.deliver()
            return not any(each.sending for each in self.state.targets.values())

        wait_until(is_idle)

    def hurry(self) -> None:
        """Lets the pause after a message pass."""
        targets = {key: vars(each) | {"next_at": 0.0} for key, each in self.state.targets.items()}
        changed = {key: type(self.state.targets[key])(**each) for key, each in targets.items()}
        self.evaluator._state = AlertState(**{**vars(self.state), "targets": changed})
        self.deliver()
        self.settle()

    @property
    def state(self) -> AlertState:
        return self.evaluator.state


def disk(value: float = BROKEN, mount: str = "/srv", **more: object) -> Reading:
    return Reading(BY_NAME["disk_health"], value, {"mount": mount}, "it is full", **more)  # type: ignore[arg-type]


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    made = AlertReceiver()
    yield made
    made.close()


@pytest.fixture
def scene(tmp_path: Path, receiver: AlertReceiver) -> Scene:
    return Scene(tmp_path, {"ALERT_URLS": receiver.url})


def test_one_message_when_it_fires_and_one_when_it_is_over(scene: Scene, receiver: AlertReceiver) -> None:
    scene.step(disk(), times=5)
    scene.settle()
    scene.hurry()
    assert receiver.titles == ["CRITICAL: disk_health[/srv]"]
    text = receiver.calls[0].json["message"]
    for part in (
        "disk /srv does not work: it is full",
        "since ",
        "df -h",
        "docs/runbooks.md#disk_health",
        "/srv/bisnes",
    ):
        assert part in text
    scene.step(disk(FINE), times=5)
    scene.hurry()
    assert receiver.titles[1:] == ["RESOLVED: disk_health[/srv]"]
    assert [(each.event, each.severity) for each in scene.events] == [
        ("alert_fired", "critical"),
        ("alert_resolved", "info"),
    ]


def test_an_operators_stop_notifies_nobody(scene: Scene, receiver: AlertReceiver) -> None:
    scene.step(disk(deliberate=True), times=5)
    scene.settle()
    assert receiver.calls == []
    assert scene.state.incidents == ()


def test_the_unavailable_database_mutes_what_follows_from_it(scene: Scene, receiver: AlertReceiver) -> None:
    follower = Reading(BY_NAME["webhooks_oldest"], 1e6)
    cause = Reading(BY_NAME["postgres_health"], BROKEN, {}, "connection refused")
    hold = {"bad_seconds": 1e6}
    scene.step(follower, cause)
    for _ in range(3):
        held = tuple(type(each)(**vars(each) | hold) for each in scene.state.incidents)
        scene.evaluator._state = AlertState(**{**vars(scene.state), "incidents": held})
        scene.step(follower, cause)
    scene.settle()
    scene.hurry()
    assert receiver.titles == ["CRITICAL: postgres_health"]


def test_a_restart_of_the_evaluator_sends_nothing_twice(scene: Scene, receiver: AlertReceiver) -> None:
    scene.step(disk(), times=3)
    scene.settle()
    scene.begin()
    scene.step(disk(), times=3)
    scene.hurry()
    assert receiver.titles == ["CRITICAL: disk_health[/srv]"]
    scene.step(disk(FINE), times=3)
    scene.hurry()
    assert receiver.titles[1:] == ["RESOLVED: disk_health[/srv]"]


def test_an_evaluator_that_is_killed_during_a_delivery_sends_nothing_twice(tmp_path: Path) -> None:
    def answer_late(call: Received) -> int:
        time.sleep(1)
        return 200

    receiver = AlertReceiver(answer_late)
    scene = Scene(tmp_path, {"ALERT_URLS": receiver.url})
    scene.step(disk(), times=2)
    wait_until(lambda: receiver.calls)
    scene.begin()
    scene.step(disk(), times=3)
    scene.settle()
    scene.hurry()
    assert len(receiver.calls) == 1
    receiver.close()


def test_a_sender_that_is_killed_before_it_sent_anything_loses_no_message(
    scene: Scene, receiver: AlertReceiver
) -> None:
    scene.step(disk(), times=2)
    [record] = scene.state.targets.values()
    assert record.sending is not None
    os.kill(record.sending.pid, signal.SIGKILL)
    scene.begin()
    scene.step(disk())
    scene.settle()
    scene.hurry()
    assert receiver.titles[-1] == "CRITICAL: disk_health[/srv]"


def test_a_target_that_refuses_is_shown_and_tried_again_and_the_others_are_not_delayed(
    tmp_path: Path, receiver: AlertReceiver
) -> None:
    refusing = AlertReceiver(lambda call: 500)
    scene = Scene(tmp_path, {"ALERT_URLS": f"{refusing.url} {receiver.url}"})
    scene.step(disk(), times=3)
    scene.settle()
    assert receiver.titles == ["CRITICAL: disk_health[/srv]"]
    failing, working = scene.state.targets.values()
    assert (failing.failures, working.failures) == (1, 0)
    assert "500" in failing.error
    assert failing.next_at > time.time()
    refusing.answer = lambda call: 200
    scene.hurry()
    assert len(receiver.calls) == 1
    assert [each.failures for each in scene.state.targets.values()] == [0, 0]
    refusing.close()


def test_no_secret_of_an_address_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path, {"ALERT_URLS": "json://operator:hidden-password@127.0.0.1:1/hidden-path?key=hidden-key"})
    scene.step(disk(), times=2)
    [record] = scene.state.targets.values()
    assert record.sending is not None
    command_line = Path(f"/proc/{record.sending.pid}/cmdline").read_bytes()
    scene.settle()
    shown = str(scene.state) + (scene.deployment.settings.run_dir / state_file.STATE_FILE).read_text()
    shown += "".join(capfd.readouterr()) + command_line.decode()
    assert "hidden" not in shown
    assert "json 1" in shown


def test_a_mail_and_a_command_get_the_message_and_its_text_is_plain(tmp_path: Path) -> None:
    mails, file = MailReceiver(), tmp_path / "alerts.jsonl"
    scene = Scene(tmp_path, {"ALERT_URLS": mails.url, "ALERT_COMMAND": f"tee -a {file}"})
    nasty = Reading(BY_NAME["disk_health"], BROKEN, {"mount": "/a"}, "<b>x</b>\n$(touch pwned) `id` \x1b[31m")
    scene.step(nasty, times=3)
    scene.settle()
    event = json.loads(file.read_text())
    assert (event["version"], event["status"], event["severity"]) == (1, "firing", "critical")
    [alert] = event["alerts"]
    assert (alert["change"], alert["name"], alert["signal"]) == ("fired", "disk_health[/a]", "disk_health")
    assert r"<b>x</b>\n$(touch pwned) `id` \x1b[31m" in event["text"]
    assert not (tmp_path / "pwned").exists()
    assert len(mails.mails) == 1
    assert "CRITICAL: disk_health[/a]" in mails.mails[0].replace("\r\n ", " ")
    mails.close()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/nowhere/notify", "cannot be run"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"no such channel\")'", "no such channel"),
    ],
)
def test_a_command_that_fails_is_shown_with_its_reason(tmp_path: Path, command: str, says: str) -> None:
    scene = Scene(tmp_path, {"ALERT_COMMAND": command})
    scene.step(disk(), times=2)
    scene.settle()
    [record] = scene.state.targets.values()
    assert says in record.error


def test_a_silence_holds_a_message_back_until_it_ends(scene: Scene, receiver: AlertReceiver) -> None:
    run_dir = scene.deployment.settings.run_dir
    now = time.time()
    silences.add(run_dir, Silence("disk_*", now + 3600, "root", now))
    scene.step(disk(), times=4)
    scene.settle()
    assert receiver.calls == []
    assert silences.remove(run_dir, "disk_*")
    scene.step(disk())
    scene.settle()
    assert receiver.titles == ["CRITICAL: disk_health[/srv]"]


def test_a_file_may_have_the_addresses_and_a_mistake_in_it_is_named(tmp_path: Path, receiver: AlertReceiver) -> None:
    file = tmp_path / "urls"
    file.write_text(f"# ours\n{receiver.url}\n\n")
    scene = Scene(tmp_path, {"ALERT_URLS": str(file)})
    scene.step(disk(), times=2)
    scene.settle()
    assert len(receiver.calls) == 1
    file.unlink()
    scene.step(disk())
    assert str(file) in scene.state.problem
    assert len(scene.state.targets) == 1, "the target is not forgotten"


def test_a_signal_that_cannot_be_measured_keeps_its_incident(scene: Scene, receiver: AlertReceiver) -> None:
    scene.step(disk(), times=2)
    scene.settle()
    scene.unmeasured = {"disk_health": "it does not answer"}
    scene.step(times=5)
    assert [each.active for each in scene.state.incidents] == [True]
    scene.unmeasured = {}
    scene.step(times=3)
    assert [each.active for each in scene.state.incidents] == [False]


def test_a_full_disk_does_not_stop_the_evaluator(scene: Scene, receiver: AlertReceiver) -> None:
    run_dir = scene.deployment.settings.run_dir
    state = run_dir / state_file.STATE_FILE
    state.unlink(missing_ok=True)
    state.mkdir()
    scene.step(disk(), times=3)
    scene.settle()
    assert receiver.titles == ["CRITICAL: disk_health[/srv]"]


def test_a_damaged_state_is_an_empty_one(scene: Scene) -> None:
    (scene.deployment.settings.run_dir / state_file.STATE_FILE).write_text('{"incidents": [{"half": ')
    scene.begin()
    assert scene.state == AlertState()
