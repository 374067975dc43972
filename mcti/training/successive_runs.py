"""The progress of several training runs in succession as the progress of one."""

from mcti.progress import Progress


class SuccessiveRuns:
    """The progress of several training runs, one after the other, as one bar, with equal weight per run.

    finished  number of runs that are done
    """

    def __init__(self, progress: Progress | None, runs: int) -> None:
        self._progress, self._runs, self.finished = progress, runs, 0
        self._restored: dict[int, float] = {}  # by run

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Progress of the current run, in steps or another `unit`."""
        if self._progress is not None:
            self._restored[self.finished] = restored
            all_done, all_restored = self.finished * total + done, sum(self._restored.values())
            self._progress(all_done, self._runs * total, unit, detail, all_restored)
