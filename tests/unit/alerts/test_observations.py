"""The groups of alerts, and the causes that explain others."""

import pytest

from bisnesctl.alerts.observations import observe
from bisnesctl.naming import session_name
from bisnesctl.signals.signal import BROKEN, Reading
from bisnesctl.signals.table import BY_NAME


def reading(signal: str, value: float, /, **labels: str) -> Reading:
    return Reading(BY_NAME[signal], value, labels)


def answers(name: str, seconds: float, process: str = "meta") -> Reading:
    return reading("response_time", seconds, process=process, name=name, host="here")


def test_slow_answers_of_all_workers_are_one_matter() -> None:
    found = observe([answers("meta-worker-1", 6), answers("meta-worker-2", 3), answers("api-0", 6, "api")], ())
    groups = [each.group for each in found.values()]
    assert groups[0] == groups[1] != groups[2]


@pytest.mark.parametrize(
    ("effect", "cause", "explained"),
    [
        (reading("outbox_oldest", 700, process="meta"), answers("meta-worker-1", 6), True),
        (reading("outbox_oldest", 700, process="wwebjs"), answers("meta-worker-1", 6), False),
        (reading("outbox_oldest", 700, process="meta"), answers("meta-worker-1", 3), False),  # a warning is less
        (reading("outbox_growth", 70, process="meta"), answers("meta-worker-1", 3), True),
        (answers("meta-worker-1", 6), reading("provider_health", BROKEN, process="meta"), True),
        (answers("api-0", 6, "api"), reading("provider_health", BROKEN, process="meta"), False),
        (reading("outbox_refused", 90, process="meta"), reading("postgres_health", BROKEN), True),
    ],
)
def test_a_provider_explains_what_follows_from_it(effect: Reading, cause: Reading, explained: bool) -> None:
    assert observe([effect, cause], ())[effect.name].explained_by == (cause.name if explained else "")


def test_bots_are_named_one_by_one_and_their_numbers_are_no_alerts_of_their_own() -> None:
    counts = [reading("bots_in_trouble", 3, status="warning"), reading("unknown_messages", 7)]
    assert list(observe([*counts, reading("bot_health", BROKEN, bot="0128-0")], ())) == ["bot_health[0128-0]"]


@pytest.mark.parametrize("bot", ["0128-1", "Müller & Söhne-2"])
def test_a_bot_its_session_and_its_token_are_one_matter(bot: str) -> None:
    company, _, phone = bot.rpartition("-")
    process = reading("process_health", BROKEN, process="wwebjs", name=session_name(company, int(phone)))
    token = Reading(BY_NAME["token_expires_in"], 0.0, {}, "", subject=f"bot {bot}")
    found = observe([reading("bot_health", 1, bot=bot), process, token], ())
    assert len({each.group for each in found.values()}) == 1
    others = [reading("bot_health", 1, bot="0129-1"), reading("process_health", BROKEN, process="api", name="api-0")]
    assert len({each.group for each in observe([process, *others], ()).values()}) == 3
