"""What follows when a browser has ended: another one at once, after a pause, or none. A pure function of the past."""

from dataclasses import dataclass

#: Browsers in a row that may come up to nothing: neither a QR code nor WORKING.
ATTEMPTS = 5
#: Seconds that a browser must have been up for its end to be an accident, rather than what will happen to the next one.
STEADY = 5.0
#: Seconds of the first pause, by what each further one is longer, and the longest.
PAUSE, GROWTH, LONGEST = 0.2, 4, 30.0


@dataclass(slots=True)
class RelaunchPolicy:
    """The browsers of one session, one after the other."""

    failed: int = 0  # in a row that came up to nothing
    brief: int = 0  # in a row that came up and ended soon after

    def note(self, up: float | None) -> None:
        """One has ended that was up for so many seconds; None: it never was."""
        self.failed = self.failed + 1 if up is None else 0
        self.brief = self.brief + 1 if up is not None and up < STEADY else 0

    @property
    def hopeless(self) -> bool:
        """Whether another one makes no sense."""
        return self.failed >= ATTEMPTS

    @property
    def pause(self) -> float:
        """Seconds until the next one."""
        troubles = max(self.failed, self.brief)
        return min(PAUSE * GROWTH ** min(troubles - 1, 8), LONGEST) if troubles else 0.0
