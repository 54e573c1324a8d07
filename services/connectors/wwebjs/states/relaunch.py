"""Whether and when another browser follows one that has ended: a pure function of the browsers so far."""

from dataclasses import dataclass

from bisnesctl.backoff import Backoff

#: Consecutive launches that may fail to reach a QR code or WORKING.
MAX_FAILED_LAUNCHES = 5
#: How long a browser must have been up for its end to count as an accident, after which no pause is needed.
STEADY_SECONDS = 5.0
#: The pauses before another browser is launched.
BACKOFF = Backoff(first_seconds=0.2, growth=4, longest_seconds=30.0)


@dataclass(slots=True)
class RelaunchPolicy:
    """Counts the browsers of one session."""

    failed: int = 0  # consecutive browsers that did not come up
    brief: int = 0  # consecutive browsers that came up and ended soon after

    def note(self, up_seconds: float | None) -> None:
        """A browser has ended that was up for `up_seconds`; None: it did not come up."""
        self.failed = self.failed + 1 if up_seconds is None else 0
        self.brief = self.brief + 1 if up_seconds is not None and up_seconds < STEADY_SECONDS else 0

    @property
    def hopeless(self) -> bool:
        """Whether another browser would be pointless."""
        return self.failed >= MAX_FAILED_LAUNCHES

    @property
    def pause(self) -> float:
        """Seconds until the next launch."""
        failures = max(self.failed, self.brief)
        return BACKOFF.pause(failures) if failures else 0.0
