"""Seconds that a run has spent, over all of its sittings."""

import time


class Clock:
    """seconds: of wall time; cpu_seconds: of processor time, all threads of this process. Both go
    on from what earlier sittings spent."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def go_on(self, seconds: float, cpu_seconds: float) -> None:
        """Add what was spent before."""
        self._wall -= seconds
        self._cpu -= cpu_seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._wall

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - self._cpu

    def read(self) -> dict[str, float]:
        """For the log."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
