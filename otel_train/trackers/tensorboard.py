"""TensorBoard: scalars and texts in a folder of their own inside the user's, written as TensorBoard's own files.

In the same folder the files of two writers hide each other: its readers take a new file to mean that the older is over.
"""

import os
import socket
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from otel_train import active
from otel_train.trackers.rows import PREFIX, Closing, Row

FILE_VERSION = "brain.Event:2"


class TensorBoard:
    """Writes beside the newest ``SummaryWriter`` of the process, or where it is told."""

    name = "tensorboard"
    merges = False
    takes_late = True

    def __init__(self, directory: Path | None = None, folder: str = PREFIX) -> None:
        """``directory`` is the user's; ours is the ``folder`` in it."""
        self._directory = directory
        self._folder = folder
        self._file: Any = None
        if directory is not None:  # half a second of imports: not beside the training
            import_module("tensorboard.compat.proto.event_pb2")
            import_module("tensorboard.summary.writer.record_writer")

    def open_run(self) -> Path | None:
        """The folder that was given, or of the writer that was made last; None without one."""
        if self._directory is not None:
            return self._directory
        return Path(active.summary_folders[-1]) if active.summary_folders else None

    def begin(self, run: Path, run_id: str) -> None:
        """Begin a file. Raises ``OSError``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.close()
        folder = run / self._folder
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{PREFIX}"
        # Unbuffered: a record is written whole or not at all, and a forked worker has nothing to write a second time.
        self._file = RecordWriter((folder / name).open("ab", buffering=0))
        self._write(Event(wall_time=time.time(), file_version=FILE_VERSION))
        self._text(f"{PREFIX}/run_id", run_id, 0, time.time_ns())

    def is_ready(self, run: Path) -> bool:
        """Always."""
        return True

    def write(self, run: Path, rows: Sequence[Row]) -> None:
        """An event a row, and a text an alert."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for row in rows:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.values.items()]
            self._write(Event(wall_time=row.unix_ns / 1e9, step=row.step, summary=Summary(value=values)))
            for alert in row.alerts:
                said = alert.text if alert.fires else f"over. {alert.text}"
                self._text(f"{PREFIX}/alerts", f"**{alert.rule}** ({alert.severity}): {said}", row.step, alert.unix_ns)

    def finish(self, run: Path, closing: Closing) -> None:
        """The run's measures and the sentence as a text."""
        lines = [" ".join((closing.sentence, *closing.caveats)), "", "| measure | value |", "|---|---|"]
        lines += [f"| {name} | {value:.6g} |" for name, value in closing.values.items()]
        self._text(f"{PREFIX}/{closing.run_id}", "\n".join(lines), closing.step, closing.unix_ns)

    def close(self) -> None:
        """Close our file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _text(self, tag: str, text: str, step: int, unix_ns: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
        value = Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
        self._write(Event(wall_time=unix_ns / 1e9, step=step, summary=Summary(value=[value])))

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())
