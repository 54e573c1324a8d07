"""The signals in the text form of Prometheus."""

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bisnesctl.signals.signal import Reading, Readings, Signal
from bisnesctl.signals.table import SIGNALS


class _Readings(Collector):
    """Readings as families of Prometheus: one for each signal that has any."""

    def __init__(self, readings: Readings) -> None:
        self._by_signal: defaultdict[str, list[Reading]] = defaultdict(list)
        for each in readings.values:
            self._by_signal[each.signal.name].append(each)

    def collect(self) -> Iterator[Metric]:
        for signal in SIGNALS:
            if signal.exported and (found := self._by_signal.get(signal.name)):
                yield _family(signal, found)


def _family(signal: Signal, readings: list[Reading]) -> Metric:
    kind = CounterMetricFamily if signal.kind == "counter" else GaugeMetricFamily
    family = kind(signal.metric, signal.help, labels=signal.labels)
    values = {tuple(each.labels.get(name, "") for name in signal.labels): each.value for each in readings}
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def expose(readings: Readings, accept: str = "") -> tuple[bytes, str]:
    """The text, and its content type. `accept`: the header of the request, which may ask for OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(_Readings(readings))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
