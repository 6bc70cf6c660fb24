"""Totals that a device keeps since its driver was loaded, as totals since the first sample of this run."""

from collections.abc import Hashable


class Totals:
    """Remembers each counter's last value and what came together since the first."""

    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}
        self._sums: dict[Hashable, float] = {}

    def since_first(self, key: Hashable, total: float) -> float:
        """What ``key`` has grown by since it was first seen; 0 then.

        A total below the last one was set back (a reset of the GPU, a driver loaded anew) or lost a part (a link that
        went down): it adds nothing this once, since what it should have added is not known.
        """
        grown = max(total - self._last.get(key, total), 0.0)
        self._last[key] = total
        self._sums[key] = self._sums.get(key, 0.0) + grown
        return self._sums[key]
