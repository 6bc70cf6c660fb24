"""Reads the file of an offline run of wandb: LevelDB's log format, with wandb's own messages in it."""

import json
import struct
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
FILE_HEADER = 7
HEADER = struct.Struct("<IHB")
LAST_KINDS = (1, 4)
"""A whole record, or the last part of one."""


def messages(path: Path) -> list[Any]:
    """The messages in a ``.wandb`` file."""
    data, found, parts, at = path.read_bytes(), [], b"", FILE_HEADER
    while at + HEADER.size <= len(data):
        if BLOCK - at % BLOCK < HEADER.size:  # the rest of a block holds no header
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, at)
        parts += data[at + HEADER.size : at + HEADER.size + length]
        at += HEADER.size + length
        if kind in LAST_KINDS:
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def history(path: Path) -> list[dict[str, Any]]:
    """The rows, each with its ``_step``."""
    rows = [record.history for record in messages(path) if record.WhichOneof("record_type") == "history"]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        | {"_step": row.step.num}
        for row in rows
    ]


def summary(path: Path) -> dict[str, Any]:
    """The summary as it ended."""
    updates = [record.summary for record in messages(path) if record.WhichOneof("record_type") == "summary"]
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for update in updates
        for item in update.update
    }
