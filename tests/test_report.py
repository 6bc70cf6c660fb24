"""The report of a run: on a terminal, in a pipe, as JSON."""

import io
import json
from pathlib import Path

import pytest
from log_builder import LogBuilder
from report_run import RUN_ID, build_run
from rich.console import Console

from otel_train.derive.summary import RunSummary, summarize_run
from otel_train.report.as_json import run_as_dict, without_nonfinite
from otel_train.report.terminal import print_report
from otel_train.runlog.runs import Run


def printed(run: RunSummary, width: int, brief: bool = False, **console: object) -> str:
    file = io.StringIO()
    print_report(run, Console(file=file, width=width, **console), brief)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    return summarize_run(Run(build_run(tmp_path)))


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits_the_terminal(run: RunSummary, width: int) -> None:
    """No line is wider, and no row is broken into two: each part's rows are where they belong."""
    lines = printed(run, width).splitlines()
    assert [] == [line for line in lines if len(line) > width]
    rows = [line for line in lines if line.startswith("  data_wait")]
    assert 1 == len(rows)
    assert "57.1 %" in rows[0]
    assert "6.00 ms" in rows[0]
    assert "█" in rows[0]
    assert [] == [line for line in lines if "…" in line and "OutOfMemory" not in line]


def test_the_report_says_what_a_person_asks(run: RunSummary) -> None:
    """What bounds it, how fast, where the time goes, which rank is slow, what failed, on what it ran."""
    shown = printed(run, 100)
    for part in (
        "char_gpt", RUN_ID, "finished", "input: 57 %", "waiting for data", "p95", "attention", "other (in no phase)",
        "rank 1 is the slowest: its median step is 10 % longer", "checkpoint save", "1.00 MiB", "evaluation validation",
        "1 step failed: 7", "torch.OutOfMemoryError", "2.00 MiB", "26 × Intel", "1 × NVIDIA H200",
        "0123456789ab with changes",
        "90.0 % of the tokens are no padding", "host time", "loss", "2.05",
    ):  # fmt: skip
        assert part in shown, part


def test_a_pipe_gets_plain_text(run: RunSummary) -> None:
    """No colour codes, and no spaces at the ends of lines."""
    shown = printed(run, 80)
    assert "\x1b" not in shown
    assert [] == [line for line in shown.splitlines() if line != line.rstrip()]


def test_a_terminal_gets_colours(run: RunSummary) -> None:
    """Where it is one."""
    assert "\x1b[" in printed(run, 80, force_terminal=True, color_system="standard")


def test_a_terminal_without_unicode_gets_no_bars(run: RunSummary) -> None:
    """Drawings are left out; the numbers stay."""
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding="ascii", errors="replace")
    print_report(run, Console(file=file, width=80))
    file.flush()
    assert b"57.1 %" in buffer.getvalue()
    assert b"???" not in buffer.getvalue()


def test_the_brief_report_ends_with_what_matters(run: RunSummary) -> None:
    """Hardware and slow steps are left to the whole one."""
    shown = printed(run, 80, brief=True)
    assert "What bounds this run" in shown
    assert "Intel" not in shown
    assert "Slowest" not in shown


def test_one_rank_has_no_table_of_ranks(tmp_path: Path) -> None:
    """There is nothing to put side by side."""
    shown = printed(summarize_run(Run(build_run(tmp_path, ranks=1))), 80)
    assert "Ranks" not in shown
    assert "(rank" not in shown


def test_an_empty_run_is_reported(tmp_path: Path) -> None:
    """A run that died before its first step."""
    builder = LogBuilder(tmp_path)
    shown = printed(summarize_run(Run(builder.path.parent)), 80)
    assert "no training step is recorded" in shown
    assert "Throughput" not in shown


def test_missing_counts_are_hyphens(tmp_path: Path) -> None:
    """Nobody counted samples: the report does not say 0."""
    builder = LogBuilder(tmp_path)
    builder.step(0, 1000)
    shown = printed(summarize_run(Run(builder.path.parent)), 80)
    row = next(line for line in shown.splitlines() if line.startswith("  samples"))
    assert ["samples", "-", "-", "-"] == row.split()


MEASURES = {
    "steps", "time", "throughput", "step_time", "step_time_curve_s", "phases", "starvation", "gpu", "data_loading",
    "packing_efficiency", "packing", "queue", "gpus", "memory", "checkpoint_share", "step_time_distribution", "changes",
    "slowest_steps", "failed_steps", "errors", "last_epoch", "epochs", "evaluations", "evaluation_steps_s",
    "checkpoints",
    "timed", "phases_outside_steps", "other_events", "scalars", "resources", "overhead_s", "records_dropped",
    "alerts",
    "profiles",
    "checkpoints_left_out",
}  # fmt: skip
RUN_KEYS = {
    "schema_version", "run_id", "path", "state", "service_name", "world_size", "started_unix_s", "bottleneck", "merged",
    "ranks", "slowest_rank", "advice", "imbalance", "mean_step", "disagreements", "hardware", "software", "git",
    "projections",
}  # fmt: skip


def test_the_json_schema_is_stable(run: RunSummary) -> None:
    """These keys are what programs rely on: a change here is a new schema version."""
    content = run_as_dict(run)
    assert RUN_KEYS == set(content)
    assert 1 == content["schema_version"]
    assert MEASURES == set(content["merged"])
    assert [MEASURES | {"rank", "state", "host", "hardware", "waiting"}] * 2 == [set(rank) for rank in content["ranks"]]
    assert {"verdict", "sentence", "phase", "share", "shares", "judged_steps", "caveats"} == set(content["bottleneck"])
    assert {"mean_s", "min_s", "p50_s", "p95_s", "p99_s", "max_s"} == set(content["merged"]["step_time"])
    assert {"wall", "stepping"} == set(content["merged"]["throughput"]["tokens_per_s"])


def test_the_json_holds_the_measures(run: RunSummary) -> None:
    """And is JSON: it survives a strict round trip."""
    content = json.loads(json.dumps(run_as_dict(run), allow_nan=False))
    merged = content["merged"]
    assert ("input", 1, 80) == (content["bottleneck"]["verdict"], content["slowest_rank"], merged["steps"]["training"])
    assert 0.0105 == merged["step_time"]["p50_s"]
    assert 2 * 40 * 320 == merged["steps"]["tokens"]
    assert 1 << 20 == merged["checkpoints"]["save"]["rate_bytes_per_s"]
    assert 2.05 == pytest.approx(merged["scalars"]["loss"]["last"])
    assert {"max": 2097152, "mean": 2097152, "last": 2097152, "min": 2097152} == merged["resources"][
        "process.memory.peak"
    ]
    assert [0, 1] == [rank["rank"] for rank in content["ranks"]]


def test_what_is_missing_is_null_in_json(tmp_path: Path) -> None:
    """Every key is there; none is 0 for want of a value."""
    builder = LogBuilder(tmp_path)
    builder.scalar(0, float("nan"))
    content = json.loads(json.dumps(run_as_dict(summarize_run(Run(builder.path.parent))), allow_nan=False))
    merged = content["merged"]
    assert MEASURES == set(merged)
    unknown = ("time", "step_time", "starvation", "last_epoch", "overhead_s", "records_dropped", "checkpoints_left_out")
    assert [None] * len(unknown) == [merged[key] for key in unknown]
    assert {"wall": None, "stepping": None} == merged["throughput"]["samples_per_s"]
    assert (1, None) == (merged["scalars"]["loss"]["nonfinite"], merged["scalars"]["loss"]["last"])


def test_what_json_has_not_becomes_null() -> None:
    """Not-a-number and the infinities, at any depth."""
    assert {"a": [None, {"b": None}], "c": 1.5} == without_nonfinite(
        {"a": (float("nan"), {"b": float("-inf")}), "c": 1.5}
    )


def keys_of(value: object) -> set[str]:
    """Every key at any depth, but names that a run makes up."""
    if isinstance(value, dict):
        free = ("shares", "evaluations", "checkpoints", "timed", "scalars", "resources", "other_events")
        own = {key for key in value if key not in ("hardware", "software", "git")}
        below = [keys_of(item if key not in free else list(item.values())) for key, item in value.items() if key in own]
        return own.union(*below)
    if isinstance(value, list):
        return set().union(*map(keys_of, value)) if value else set()
    return set()


def test_every_key_of_the_json_is_documented(run: RunSummary) -> None:
    """In ``docs/report.md``."""
    documented = (Path(__file__).parent.parent / "docs" / "report.md").read_text()
    assert [] == sorted(key for key in keys_of(run_as_dict(run)) if f"`{key}`" not in documented)
