"""The layout of a run log: names, sizes, versions. ``docs/run-log.md`` says the same in words.

Nothing here imports numpy: the hot path packs records with ``struct``; ``records`` has the same layout as numpy types.
"""

import struct

FORMAT_VERSION = 1
"""Raised whenever an older reader would misread a newer log."""

MAGIC = b"OTELTRN\0"
SEGMENT_HEADER = struct.Struct("<8sIIQQ")
"""Magic, format version, record size in bytes, segment capacity in records, ordinal of the first record."""
COMMITTED = struct.Struct("<Q")
COMMITTED_OFFSET = 32
"""Where a segment holds the number of its records that are whole. Written last."""
RECORDS_OFFSET = 128

STEP_BYTES = 128
STEP_HEAD = "qqqIIIII"
"""Number, start, duration, samples, tokens, padded tokens, epoch; and in one number the flags, 16 bits up how many
phases, 24 bits up the loader's queue."""
PHASE_SLOT = "Iff"
"""Phase id, 8 bits up its depth, 16 bits up its count, as one number; start after the step's start; duration."""
PHASES_SHIFT = 16
QUEUE_SHIFT = 24
LARGEST_QUEUE = 254
DEPTH_SHIFT = 8
COUNT_SHIFT = 16
PHASE_SLOTS = 7
STEP_STRUCTS = tuple(struct.Struct("<" + STEP_HEAD + PHASE_SLOT * slots) for slots in range(PHASE_SLOTS + 1))
"""By the number of phase slots in use; the rest of a fresh segment is zero already."""
assert STEP_STRUCTS[PHASE_SLOTS].size == STEP_BYTES

SCALAR_STRUCT = struct.Struct("<qqIId")
"""Step number, monotonic ns, name id, reserved, value."""

GPU_HEAD = "qqIIqqq"
"""Number of the step, when it ended, how many slots, allocator retries so far, bytes allocated, reserved, and at most
allocated so far; -1 where memory was not looked at."""
GPU_SLOT = "If"
"""Phase id and, 16 bits up, its count; the time in ns between the GPU's passing its first event and its last."""
GPU_STRUCTS = tuple(struct.Struct("<" + GPU_HEAD + GPU_SLOT * slots) for slots in range(PHASE_SLOTS + 1))
GPU_BYTES = GPU_STRUCTS[PHASE_SLOTS].size

MISSING = 0xFFFFFFFF
"""In an unsigned 32-bit field: not known, which is not zero."""
LARGEST = MISSING - 1

FAILED = 1
"""Flag: an exception left the step."""
EVALUATION = 2
"""Flag: the step ran inside ``trace_evaluation``; it is no training step."""
CHILD_SPANS = 4
"""Flag: the application made spans of its own inside the step."""
MERGED = 8
"""Flag: more phases than slots; phases of one name and depth share a slot."""
SKIPPED = 16
"""Flag: the gradient scaler found infinities, and the optimizer did not step."""

PROFILED = 32
"""Flag: torch's profiler was on for otel_train; the step is slower than its like."""

SEGMENT_BYTES = 1 << 20
"""A segment of steps holds 8191 records. Small enough that a thousand ranks may preallocate it."""
EVENTS_SEGMENT_BYTES = 4 << 20

RUN_JSON = "run.json"
NAMES = "names.jsonl"
CURSOR = "cursor.json"
LOCK = "export.lock"
RESOURCES = "resources.csv"
PROFILES = "profiles"
"""The folder of traces."""
PROFILE_REQUEST = "profile.json"
"""What ``otel-train profile run`` asks of a rank."""
RESOURCES_SEGMENT_BYTES = 4 * 2**20

OTHER_PHASE = 0
"""Phase id 0 is ``other``: what no slot was left for."""
DATA_WAIT = "data_wait"
STEP_PHASE = "step"
"""A step inside a step is a phase of the outer one, by this name."""


def segment_name(stem: str, number: int, suffix: str) -> str:
    """``steps-00000003.bin``."""
    return f"{stem}-{number:08d}.{suffix}"


def rank_folder(rank: int) -> str:
    """``rank-00012``."""
    return f"rank-{rank:05d}"
