"""Trains with real DataLoader workers, started as the argument says. Its dataset calls otel_train in them.

With ``--unguarded``, ``init()`` stands at the top level, where a spawned worker meets it again.
"""

import os
import sys
import threading
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import otel_train

if "--unguarded" in sys.argv:
    otel_train.init()


class Traced(Dataset):
    """Each item notes the worker's threads, and uses all that a dataset might."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        with otel_train.trace_step(), otel_train.trace_phase("decode"):
            otel_train.log(worker_value=1.0)
        with otel_train.timed("augment"), otel_train.trace_checkpoint("cache"):
            pass
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("otel_train.")]
        (Path(os.environ["SEEN"]) / str(os.getpid())).write_text(",".join(names))
        return torch.zeros(3)


def main():
    """Two epochs with two workers."""
    with otel_train.init():
        loader = DataLoader(Traced(), batch_size=4, num_workers=2, multiprocessing_context=sys.argv[1])
        for epoch in range(2):
            with otel_train.trace_epoch(epoch):
                for _ in otel_train.trace_dataloader(loader):
                    with otel_train.trace_step():
                        pass


if __name__ == "__main__":
    main()
