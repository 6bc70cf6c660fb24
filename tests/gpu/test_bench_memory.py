"""A memory sweep on a real GPU: up to the batch size at which CUDA's allocator runs out, which it survives."""

import json
from pathlib import Path

from click.testing import CliRunner

from otel_train.cli import group

TRAINING = str(Path(__file__).parent.parent / "bench_memory.py")


def test_a_sweep_to_the_end_of_the_memory(cuda, tmp_path):
    """The largest size that fits and, of the first that does not, the allocator's figures."""
    total = cuda.cuda.get_device_properties(0).total_memory
    width = total // (1024 * 6 * 4) // 256 * 256  # a thousand rows fit, of some four tensors; four thousand do not
    training = [TRAINING, "--device", "cuda", "--width", str(width), "--batch-size", "{batch_size}"]
    sweep = ["bench", "--dir", str(tmp_path), "--sweep", "batch_size=1024..4096"]
    shown = CliRunner().invoke(group, [*sweep, "--", *training])
    print(f"\n{shown.output}")
    assert 0 == shown.exit_code
    state = next(tmp_path.glob("*/state.jsonl"))
    runs = [json.loads(line) for line in state.read_text().splitlines()[1:]]
    print(runs)
    assert {"done", "failed"} == {run["status"] for run in runs}
    assert "CUDA's allocator ran out of memory" in shown.stdout
    assert "GiB" in shown.stdout
    assert all(figure in shown.stdout for figure in ("asked for", "allocated", "reserved", "free", "device"))
