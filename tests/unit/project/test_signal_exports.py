"""The table of signals, health, metrics, alert rules, dashboard and runbooks agree."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bisnesctl.health.verdict import Verdict
from bisnesctl.signals.exposition import expose
from bisnesctl.signals.signal import Reading, Readings, Signal, judge
from bisnesctl.signals.table import SIGNALS
from tests.support.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[3]
RULES = ROOT / "conf" / "prometheus"
EXPORTED = [each for each in SIGNALS if each.exported]
ALERTING = [each for each in EXPORTED if each.alerts]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The modules that write the files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "scripts/lib/reference"), *sys.path])
        names = ("promql", "prometheus_rules", "grafana_dashboard", "runbooks_page", "metrics_page")
        yield {name: importlib.import_module(name) for name in names}


def rules() -> dict[str, str]:
    """The expression of each alert."""
    text = (RULES / "bisnes.rules.yml").read_text()
    found = re.findall(r"- alert: (\w+)\n\s+expr: (\".*\")\n", text)
    return {name: json.loads(expression) for name, expression in found}


@pytest.mark.parametrize(
    ("module", "function", "path"),
    [
        ("prometheus_rules", "render", "conf/prometheus/bisnes.rules.yml"),
        ("prometheus_rules", "render_tests", "conf/prometheus/bisnes.rules.test.yml"),
        ("grafana_dashboard", "render", "conf/grafana/bisnes.json"),
        ("runbooks_page", "render", "docs/runbooks.md"),
        ("metrics_page", "render", "docs/reference/metrics.md"),
    ],
)
def test_a_generated_file_is_as_the_table_says(
    modules: dict[str, ModuleType], module: str, function: str, path: str
) -> None:
    assert (ROOT / path).read_text().endswith(getattr(modules[module], function)()), "run scripts/docs"


def test_each_signal_that_prometheus_sees_is_exposed_with_its_type_and_help() -> None:
    values = [Reading(each, 1.5, dict.fromkeys(each.labels, 'a "quoted"\n\\ name')) for each in SIGNALS]
    text, content_type = expose(Readings(values))
    assert content_type.startswith("text/plain; version=0.0.4")
    found = {each.name: each for each in text_string_to_metric_families(text.decode())}
    assert set(found) == {each.metric.removesuffix("_total") for each in EXPORTED}
    for signal in EXPORTED:
        family = found[signal.metric.removesuffix("_total")]
        assert (family.type, family.documentation) == (signal.kind, signal.help)
        [sample] = family.samples
        assert (sample.name, sample.value) == (signal.metric, 1.5)
        assert sample.labels == dict.fromkeys(signal.labels, 'a "quoted"\n\\ name')


def test_openmetrics_is_served_to_those_who_ask_for_it() -> None:
    text, content_type = expose(Readings([Reading(EXPORTED[0], 0.0)]), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_every_threshold_has_its_rule(modules: dict[str, ModuleType]) -> None:
    promql = modules["promql"]
    expected = {promql.alert_name(each, level) for each in ALERTING for level in promql.severities(each)}
    assert set(rules()) == expected
    metrics = {each.metric for each in EXPORTED}
    assert set(re.findall(r"bisnes_\w+", " ".join(rules().values()))) <= metrics


@pytest.mark.parametrize("signal", ALERTING, ids=lambda each: each.name)
@given(st.floats(-1e6, 1e6), st.booleans())
def test_a_rule_and_health_judge_a_value_alike(signal: Signal, number: float, small: bool) -> None:
    lowest = min(each.low for each in (signal.warning, signal.critical) if each)
    value = number / 1e6 * 3 if small else number
    value = abs(value) if lowest == 0 else value
    sys_path = [str(ROOT / "scripts/lib/reference"), *sys.path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys_path)
        promql = importlib.import_module("promql")
    met = {
        level: limit is not None and _holds(promql.condition(signal.metric, limit), signal.metric, value)
        for level, limit in ((Verdict.WARNING, signal.warning), (Verdict.CRITICAL, signal.critical))
    }
    expected = Verdict.CRITICAL if met[Verdict.CRITICAL] else Verdict.WARNING if met[Verdict.WARNING] else Verdict.OK
    assert judge(Reading(signal, value)) is expected


def _holds(expression: str, metric: str, value: float) -> bool:
    """Whether a comparison, or several with `and` or `or`, holds for a value of the metric."""
    return any(all(_compare(part, metric, value) for part in each.split(" and ")) for each in expression.split(" or "))


def _compare(comparison: str, metric: str, value: float) -> bool:
    left, operator, right = comparison.split(" ")
    assert left == metric
    limit = float(right)
    return {"<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit}[operator]


def test_the_dashboard_has_a_panel_for_each_signal() -> None:
    dashboard = json.loads((ROOT / "conf/grafana/bisnes.json").read_text())
    panels = [each for each in dashboard["panels"] if each["type"] != "row"]
    assert sorted(each["title"] for each in panels) == sorted(each.name for each in EXPORTED)
    assert len({each["id"] for each in dashboard["panels"]}) == len(dashboard["panels"])
    by_title = {each["title"]: each for each in panels}
    for signal in EXPORTED:
        [target] = by_title[signal.name]["targets"]
        assert signal.metric in target["expr"]
        values = [step["value"] for step in by_title[signal.name]["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])


def test_panels_do_not_overlap() -> None:
    dashboard = json.loads((ROOT / "conf/grafana/bisnes.json").read_text())
    cells = [
        (x, y)
        for place in (each["gridPos"] for each in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))


def test_alerts_lead_to_an_entry_of_the_runbooks() -> None:
    headings = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE))
    assert headings == {each.name for each in SIGNALS}
    anchors = re.findall(r"docs/runbooks\.md#(\w+)", (RULES / "bisnes.rules.yml").read_text())
    assert set(anchors) == {each.name for each in ALERTING}


def test_the_page_of_metrics_lists_each_signal() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    assert [each for each in EXPORTED if f"`{each.metric}`" not in page] == []


@pytest.mark.parametrize(
    "command", [["check", "rules", "bisnes.rules.yml"], ["test", "rules", "bisnes.rules.test.yml"]]
)
def test_promtool_accepts_the_rules_and_their_tests(command: list[str]) -> None:
    promtool = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
    if promtool is None:
        pytest.skip("promtool is not here, and scripts/provision --dev could not fetch it")
    done = subprocess.run(
        [promtool, *command], cwd=RULES, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
