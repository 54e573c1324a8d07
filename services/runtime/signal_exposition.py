"""The signals for `/metrics`: the last measurement, of any program. A request never waits for PostgreSQL."""

import math
import threading
import time

import structlog

from bisnesctl.settings import Settings

#: Seconds after which a measurement is made again, unless another program has done so, such as `alerts`.
FRESH_SECONDS = 20.0
#: Seconds for which the first request waits for the first measurement.
FIRST_SECONDS = 4.0

log = structlog.get_logger()


class SignalExposition:
    """Answers with the last measurement of this deployment, and has the next one made on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def answer(self, accept: str) -> tuple[bytes, str]:
        """The text, and its content type. `accept`: the header of the request."""
        # These take megabytes, and few processes are ever asked.
        from bisnesctl.signals import cache, exposition
        from bisnesctl.signals.signal import Reading, Readings
        from bisnesctl.signals.table import MEASUREMENT_AGE

        found = cache.read(self._settings.run_dir)
        if found is None or not 0 <= time.time() - found.at < FRESH_SECONDS:
            thread = self._begin()
            if found is None:
                thread.join(FIRST_SECONDS)
                found = cache.read(self._settings.run_dir)
        age = math.inf if found is None else max(time.time() - found.at, 0.0)
        values = () if found is None else found.values
        return exposition.expose(Readings([*values, Reading(MEASUREMENT_AGE, age)]), accept)

    def _begin(self) -> threading.Thread:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._measure, name="signals", daemon=True)
                self._thread.start()
            return self._thread

    def _measure(self) -> None:
        """Measure, unless another instance does so. The measurement writes the cache."""
        from bisnesctl.processes.deployment import open_deployment
        from bisnesctl.signals import cache
        from bisnesctl.signals.measurement import measure

        try:
            with cache.measuring(self._settings.run_dir) as alone:
                if alone:
                    measure(open_deployment(self._settings))
        except OSError as error:
            log.warning("signals.not_measured", reason=str(error))
        except Exception:
            log.exception("signals.failed")
