"""Xid errors of NVIDIA's driver: what a kernel log would say about a GPU, counted by code."""

from collections import Counter
from typing import Any

from otel_train.resource_names import GPU_XID, series
from otel_train.samplers.nvidia_gpus import NvidiaGpus, SampledGpu
from otel_train.samplers.sampler import Readings

MOST_AT_ONCE = 1000
"""Events taken from one GPU in one sample; what is left in the driver's queue is counted with the next."""


class XidWatcher:
    """Counts the Xid events that came while it watched: from the first sample on.

    A code appears with its first event. What happened between two connections to the driver is not known, nor what
    befell MIG instances where the process may not see it.
    """

    def __init__(self, gpus: NvidiaGpus) -> None:
        self._gpus = gpus
        self._sets: dict[str, Any] = {}
        self._connection = 0
        self._counts: Counter[tuple[str, int]] = Counter()

    def sample(self) -> Readings:
        """The events so far, by GPU and code. Raises ``NVMLError`` where no GPU could be asked, and nothing came."""
        gpus = self._gpus.sampled()
        if self._connection != self._gpus.connections:  # the sets of an earlier one are no longer valid
            self._sets.clear()
            self._connection = self._gpus.connections
        before = self._counts.total()
        troubles: list[Exception] = []
        for gpu in gpus:
            try:
                self._take(gpu)
            except self._gpus.library.NVMLError as error:
                troubles.append(error)
        if troubles and len(troubles) == len(gpus) and before == self._counts.total():
            raise troubles[0]
        return self._readings(gpus)

    def _take(self, gpu: SampledGpu) -> None:
        uuid = gpu.device.uuid
        if uuid not in self._sets:
            self._sets[uuid] = self._watch(gpu)
        events = self._sets[uuid]
        for _ in range(MOST_AT_ONCE if events is not None else 0):
            try:
                event = self._gpus.library.nvmlEventSetWait_v2(events, 0)
            except self._gpus.library.NVMLError_Timeout:  # no more
                return
            if event.eventType == self._gpus.library.nvmlEventTypeXidCriticalError:
                self._counts[uuid, int(event.eventData)] += 1

    def _watch(self, gpu: SampledGpu) -> Any:
        """A set of this GPU's Xid events; None where there are none to be had: Windows, virtual GPUs, MIG instances."""
        library = self._gpus.library
        events = library.nvmlEventSetCreate()
        try:
            library.nvmlDeviceRegisterEvents(gpu.reader.handle, library.nvmlEventTypeXidCriticalError, events)
        except library.NVMLError as error:
            library.nvmlEventSetFree(events)
            codes = (
                library.NVML_ERROR_NOT_SUPPORTED,
                library.NVML_ERROR_INVALID_ARGUMENT,
                library.NVML_ERROR_NO_PERMISSION,
            )
            if error.value in codes:
                return None
            raise
        return events

    def _readings(self, gpus: list[SampledGpu]) -> Readings:
        attributes = {gpu.device.uuid: gpu.attributes for gpu in gpus}
        return {
            series(GPU_XID, **attributes[uuid], otel_train__gpu__xid__code=str(code)): float(count)
            for (uuid, code), count in self._counts.items()
            if uuid in attributes
        }
