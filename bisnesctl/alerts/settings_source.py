"""The deployment with the settings of this moment, so that a change of `.env` counts at once."""

from bisnesctl.database.kept_connection import KeptConnection
from bisnesctl.database.process_events import LoggedCondition
from bisnesctl.errors import BisnesError
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.series.recorder import Recorder
from bisnesctl.settings import load_partly
from bisnesctl.signals.measurement import Measurement, Measurer


class SettingsSource:
    """Reads the settings. If they cannot be read, those of before stay in force, which is a trouble of its own."""

    def __init__(self) -> None:
        """Raises `BisnesError` if there are no settings yet."""
        self._unreadable = LoggedCondition("alerts.settings_unreadable", "alerts.settings_readable")
        kept = KeptConnection()
        self._measurer, self._recorder = Measurer(kept), Recorder(kept)
        self._load()

    def _load(self) -> None:
        settings = load_partly()
        self.deployment: Deployment = open_deployment(as_started(settings.with_defaults()))
        #: Why values are refused, or why all of them cannot be read.
        self.refused = list(settings.problems.values())

    def read(self) -> Deployment:
        """The deployment now."""
        try:
            self._load()
        except BisnesError as error:
            self.refused = [str(error)]
            self._unreadable.begin(str(error))
        else:
            self._unreadable.end()
        return self.deployment

    def measure(self, deployment: Deployment) -> Measurement:
        """Measures everything, the refused settings too, and stores for plots what changes over time."""
        found = self._measurer.measure(deployment, self.refused)
        self._recorder.record(found)
        return found
