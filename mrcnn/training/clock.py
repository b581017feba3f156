"""The time that a run has been training, over all its processes."""

import time


class Clock:
    """Counts minutes from its construction.

    Args:
        before: Minutes of earlier processes of the run.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self.begun = time.monotonic()

    def minutes(self) -> float:
        """Return the minutes of the run so far."""
        return self.before + (time.monotonic() - self.begun) / 60
