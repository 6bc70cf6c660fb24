"""Reading torch's traces: recorded on an H200 (``profiles/``), taken here on the CPU, and made by hand."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otel_train.profiles import spans
from otel_train.profiles.advice import advice, sentence
from otel_train.profiles.analysis import analyze, window_of
from otel_train.profiles.compare import operator_changes
from otel_train.profiles.device import device_times
from otel_train.profiles.operators import tabulate
from otel_train.profiles.outermost import outermost
from otel_train.profiles.peaks import peak_flops
from otel_train.profiles.trace import COPY, KERNEL, UnreadableTrace, parse_trace, read_trace

RECORDED = sorted(path.name.removesuffix(".json.gz") for path in (Path(__file__).parent / "profiles").iterdir())


def recorded(name):
    """A trace, the window (Unix ns) that the step took on the host, and torch's ``key_averages()`` (µs)."""
    path = Path(__file__).parent / "profiles" / f"{name}.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    return parse_trace(json.dumps(content["trace"])), content["window"], content["averages"]


def whole(trace):
    """From the first event to the last."""
    return int(trace.start_ns.min()), int(trace.end_ns.max())


@pytest.mark.parametrize("name", RECORDED)
def test_self_times_are_key_averages(name):
    """Of each operator, within 1 %, on the host and of what it launched.

    But not where torch counts twice: what the profiler itself took on the backward's thread (``Activity Buffer
    Request``) is a row of its own there, and in the operator that it interrupted too.
    """
    trace, _, averages = recorded(name)
    table = tabulate(trace, *whole(trace))
    theirs = {row["key"]: row for row in averages if row["device_type"] == "DeviceType.CPU"}
    assert set(theirs) == {row.name for row in table.rows}
    for row in table.rows:
        counted_twice = name == "h200-gpt-small" and row.name == "aten::fill_"
        if not counted_twice:
            assert pytest.approx(theirs[row.name]["self_cpu"], rel=0.01, abs=2) == row.self_s * 1e6
            assert row.self_s <= row.total_s * 1.0001
            assert row.total_s * 1e6 <= theirs[row.name]["cpu"] * 1.01 + 2  # torch adds calls inside calls again
        if row.name != "Activity Buffer Request":  # torch gives it the kernels that it delayed
            assert pytest.approx(theirs[row.name]["self_device"], rel=0.01, abs=1) == row.device_s * 1e6
        assert theirs[row.name]["count"] <= row.calls  # torch makes one of a call that only calls its like


@pytest.mark.parametrize("name", RECORDED)
def test_rows_add_up_to_the_window(name):
    """What operators took of the window and what passed in none are the window; likewise the device's times."""
    trace, window, _ = recorded(name)
    table = tabulate(trace, *window)
    assert pytest.approx(table.window_s) == sum(row.window_s for row in table.rows) + table.none_s
    device = device_times(trace, *window)
    assert pytest.approx(device.window_s) == sum(device.times_s.values())
    analysis = analyze(trace, *window)
    assert pytest.approx(1.0) == sum(analysis.shares.values())


@pytest.mark.parametrize("name", RECORDED)
def test_busy_time_is_kinetos(name):
    """The kernels and copies of these cases run one after another: busy is the sum of their times."""
    trace, _, _ = recorded(name)
    device = device_times(trace, *whole(trace))
    ran = [index for index in range(len(trace)) if trace.device[index] >= 0]
    assert pytest.approx(sum(trace.duration_ns[ran]) / 1e9, rel=0.01) == device.busy_s
    assert sum(trace.kind[ran] == KERNEL) == device.kernels
    assert sum(trace.kind[ran] == COPY) == device.copies


@pytest.mark.parametrize(
    ("name", "usual_ms", "bound"),
    [
        ("h200-gpt-small", None, "launch"),
        ("h200-matmuls", None, "compute"),
        ("h200-elementwise", 0.8, "memory"),
        ("h200-tiny", None, "launch"),
        ("h200-copies", None, "copy"),
    ],
)
def test_what_bounds_it_on_a_gpu(name, usual_ms, bound):
    """A small GPT, large matrices, additions of 256 MiB (3 of its 4 ms are the profiler's), of 64 numbers, and copies
    from pageable memory."""
    trace, window, _ = recorded(name)
    analysis = analyze(trace, *window, usual_ns=usual_ms and usual_ms * 1e6)
    assert bound == analysis.bound
    assert sentence(analysis).startswith(f"{bound}: ")


def test_figures_of_matrix_products():
    """Four products of 8192 x 8192 in bf16: FLOPs are 2 n^3 each, all on tensor cores; MFU is of the GPU's window."""
    trace, window, _ = recorded("h200-matmuls")
    analysis = analyze(trace, *window)
    assert 4 * 2 * 8192**3 == analysis.flops
    assert 1.0 == analysis.device.tensor_core_share
    assert pytest.approx(analysis.flops / analysis.device.window_s / 989e12) == analysis.mfu
    assert 0.6 < analysis.mfu / (analysis.device.busy_s / analysis.device.window_s) < 0.9


def test_figures_of_copies():
    """Bytes and time of copies, the waits that they are, and pinned memory as advice."""
    trace, window, _ = recorded("h200-copies")
    analysis = analyze(trace, *window)
    assert (3, 3 * 2**26) == (analysis.device.copies, analysis.device.copied_bytes)
    assert [("cudaStreamSynchronize", "aten::to", 3)] == [(w.call, w.operator, w.calls) for w in analysis.waits]
    assert "pin_memory=True" in advice(analysis)[0].action


def test_a_wait_for_the_gpu_is_found():
    """``.item()`` on a loss: each waits once."""
    trace, window, _ = recorded("h200-item")
    (wait,) = analyze(trace, *window).waits
    assert ("cudaStreamSynchronize", "aten::item", 2) == (wait.call, wait.operator, wait.calls)


# -- made by hand --------------------------------------------------------------------------------------------------


def event(name, start_us, took_us, category="cpu_op", thread=1, **more):
    """An event as torch writes it."""
    return {
        "ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread, "ts": start_us, "dur": took_us, "args": more
    }  # fmt: skip


def kernel(name, start_us, took_us, correlation):
    """A kernel on stream 7 of GPU 0."""
    return event(name, start_us, took_us, "kernel", 7, device=0, stream=7, correlation=correlation)


def launch(start_us, correlation, took_us=2):
    """Its launch on thread 1."""
    return event("cudaLaunchKernel", start_us, took_us, "cuda_runtime", correlation=correlation)


def trace_of(*events, **head):
    """A trace of these, its base the Unix epoch."""
    return parse_trace(json.dumps({**head, "traceEvents": list(events)}))


def test_what_an_operator_calls_is_not_its_own():
    """Self times of nested operators; the total of one that calls itself counts once."""
    trace = trace_of(event("a", 0, 100), event("b", 10, 30), event("a", 15, 5), event("b", 60, 20))
    rows = {row.name: row for row in tabulate(trace, 0, 200_000).rows}
    assert (2, 55e-6, 100e-6) == (rows["a"].calls, pytest.approx(rows["a"].self_s), pytest.approx(rows["a"].total_s))
    assert (2, 45e-6, 50e-6) == (rows["b"].calls, pytest.approx(rows["b"].self_s), pytest.approx(rows["b"].total_s))


def test_another_thread_counts_while_the_main_one_is_in_nothing():
    """The backward of a GPU runs on the engine's thread, while the training's waits in no operator."""
    trace = trace_of(event("forward", 0, 40), event("backward", 30, 60, thread=2), event("step", 95, 5))
    table = tabulate(trace, 0, 100_000)
    rows = {row.name: row for row in table.rows}
    assert pytest.approx(50e-6) == rows["backward"].window_s
    assert pytest.approx(60e-6) == rows["backward"].self_s
    assert pytest.approx(5e-6) == table.none_s


def test_a_kernel_that_runs_later_belongs_to_the_window_of_its_launch():
    """A host that runs ahead launches in 0.1 ms what the GPU works on for 2: that long is the GPU's window, and the
    kernels' part of it."""
    trace = trace_of(
        launch(0, 1), launch(50, 2), kernel("elementwise", 900, 1000, 1), kernel("elementwise", 1900, 1000, 2)
    )
    device = device_times(trace, 0, 100_000)
    assert (2, 2e-3, 2e-3) == (device.kernels, pytest.approx(device.busy_s), pytest.approx(device.window_s))
    (row,) = tabulate(trace, 0, 100_000).kernels
    assert (2, 2e-3) == (row.calls, pytest.approx(row.device_s))


@pytest.mark.parametrize("first_us", [50, 140])
def test_the_first_kernel_after_a_pause(first_us):
    """The host waited for its batch, so the GPU did: also where the launch, under CUPTI, takes 120 µs."""
    trace = trace_of(launch(20_000, 1, took_us=120), kernel("elementwise", 20_000 + first_us, 10, 1))
    device = device_times(trace, 0, 21_000_000, spans.spans([(0, 19_900_000)]))
    assert pytest.approx(21e-3) == device.window_s
    assert pytest.approx(19.9e-3) == device.times_s["data"]


def test_what_the_profiler_took_is_in_no_share():
    """It is the host's time between launches, up to what a profiler can take; never what the GPU worked."""
    events = [launch(0, 1), kernel("gemm", 4, 4000, 1), launch(9_000, 2), kernel("gemm", 9_004, 1000, 2)]
    trace = trace_of(*events, otel_train={"usual_ns": 6_000_000})
    analysis = analyze(trace, 0, 10_004_000)
    assert pytest.approx(4.004e-3) == analysis.slowdown_s
    assert pytest.approx(5 / 6, rel=1e-3) == analysis.shares["compute"]
    assert pytest.approx(1.0) == sum(analysis.shares.values())
    assert pytest.approx(5 / 10, rel=1e-3) == analyze(trace_of(*events), 0, 10_004_000).shares["compute"]
    assert 0.0 == analyze(trace, 0, 10_004_000, usual_ns=20_000_000).slowdown_s
    assert analyze(trace_of(*events), 0, 10_004_000).slowdown_s is None


def test_the_memory_of_operators():
    """Bytes that each allocated itself less what it freed: on the device, where any were there."""

    def change(at_us, size, device):
        more = {"Bytes": size, "Device Type": int(device >= 0), "Device Id": device}
        return {**event("[memory]", at_us, 0, "cpu_instant_event", **more), "ph": "i"}

    operators = [event("aten::linear", 0, 50), event("aten::addmm", 10, 30), event("aten::add", 60, 10)]
    on_host = [change(20, 100, -1), change(45, -40, -1), change(55, 7, -1)]
    rows = {row.name: row.memory for row in tabulate(trace_of(*operators, *on_host), 0, 100_000).rows}
    assert {"aten::linear": -40, "aten::addmm": 100, "aten::add": 0} == rows
    rows = {
        row.name: row.memory
        for row in tabulate(trace_of(*operators, *on_host, change(62, 1 << 40, 0)), 0, 100_000).rows
    }
    assert {"aten::linear": 0, "aten::addmm": 0, "aten::add": 1 << 40} == rows
    assert {None} == {row.memory for row in tabulate(trace_of(*operators), 0, 100_000).rows}


def test_the_outermost_operators():
    """Those that no other called, of each thread; the longest, where there are too many."""
    events = [event("a", 0, 100), event("b", 10, 30), event("c", 100, 5), event("d", 50, 60, thread=2)]
    calls, left_out = outermost(trace_of(*events, event("e", 190, 20)), 0, 200_000)
    assert [("a", 0, 100_000), ("d", 50_000, 110_000), ("c", 100_000, 105_000)] == [
        (call.name, call.start_ns, call.end_ns) for call in calls
    ]
    assert 0 == left_out
    many = [event("long" if number % 2 else "short", 10 * number, 1 + number % 2) for number in range(600)]
    calls, left_out = outermost(trace_of(*many), 0, 6_000_000)
    assert (256, 344) == (len(calls), left_out)
    assert {"long"} == {call.name for call in calls}
    assert ([], 0) == outermost(trace_of(*events), 300_000, 400_000)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        ([], "launch"),
        ([event("cudaStreamSynchronize", 5, 16, "cuda_runtime")], "synchronisation"),
    ],
)
def test_why_the_gpu_was_idle(between, reason):
    """Its next kernel was launched late: because the host waited for the GPU, or because it was busy otherwise."""
    trace = trace_of(launch(0, 1), kernel("gemm", 4, 16, 1), *between, launch(60, 2), kernel("gemm", 64, 36, 2))
    times = device_times(trace, 0, 100_000).times_s
    assert pytest.approx(40e-6) == times[reason]
    assert pytest.approx(8e-6) == times["queued"] + times["launch"] - (40e-6 if reason == "launch" else 0)
    assert pytest.approx(52e-6) == times["math"]


def test_the_gpu_waits_for_data():
    """What of a gap lies in the wait for a batch."""
    trace = trace_of(launch(0, 1), kernel("gemm", 0, 20, 1), launch(60, 2), kernel("gemm", 60, 40, 2))
    times = device_times(trace, 0, 100_000, spans.spans([(10_000, 50_000)])).times_s
    assert (pytest.approx(30e-6), pytest.approx(10e-6)) == (times["data"], times["launch"])


def test_communication_that_computation_hides():
    """Only what runs alone is communication's own time; all of it is known too."""
    trace = trace_of(
        launch(0, 1), launch(1, 2), kernel("gemm", 3, 47, 1),
        {**kernel("ncclDevKernel_AllReduce", 20, 60, 2), "tid": 20}, launch(60, 3), kernel("elementwise", 80, 20, 3),
    )  # fmt: skip
    device = device_times(trace, 0, 100_000)
    assert pytest.approx(30e-6) == device.times_s["communication"]
    assert pytest.approx(60e-6) == device.communication_s
    assert pytest.approx(47e-6) == device.times_s["math"]


def test_the_line_that_waits():
    """With Python's stacks: the innermost frame of the user's own."""
    frames = [
        event("train.py(10): main", 0, 100, "python_function"),
        event("train.py(42): step", 1, 90, "python_function"),
        event("torch/_tensor.py(99): wrapped", 2, 80, "python_function"),
        event("<built-in method item>", 3, 70, "python_function"),
    ]
    waiting = event("cudaStreamSynchronize", 10, 50, "cuda_runtime")
    trace = trace_of(*frames, event("aten::item", 5, 60), waiting, launch(0, 1), kernel("gemm", 4, 50, 1))
    (wait,) = analyze(trace, 0, 100_000).waits
    assert ("train.py(42): step", "aten::item") == (wait.line, wait.operator)


@pytest.mark.parametrize(
    ("events", "bound"),
    [
        ([event("aten::mm", 0, 90_000)], "compute"),
        ([event("aten::add", 0, 90_000)], "memory"),
        ([event("aten::add", 100 * n, 5) for n in range(900)], "launch"),
        ([event("enumerate(DataLoader)#_SingleProcess.__next__", 0, 60_000, "user_annotation")], "input"),
        ([event("c10d::allreduce_", 0, 60_000)], "communication"),
    ],
)
def test_what_bounds_it_without_a_gpu(events, bound):
    """Matrices, large operators, small ones with Python between them, the loader, collectives."""
    assert bound == analyze(trace_of(*events), 0, 90_000_000).bound


def test_the_windows_of_traces():
    """The steps that we marked; else the last that torch marked; else all there is."""
    operators = [event("aten::mm", 10, 20), event("aten::mm", 50, 30)]
    steps = [event(f"ProfilerStep#{n}", 40 * n, 35, "user_annotation") for n in (0, 1)]
    own = {**event("step 7", 45, 40, "otel_train", 99), "pid": "otel_train"}
    assert (10_000, 80_000, None) == window_of(trace_of(*operators))
    assert (40_000, 75_000, None) == window_of(trace_of(*operators, *steps))
    assert (45_000, 85_000, 99) == window_of(trace_of(*operators, *steps, own))


def test_which_operators_got_slower():
    """By the windows' own time, the largest change first."""
    before = analyze(trace_of(event("a", 0, 10), event("b", 10, 10)), 0, 100_000)
    after = analyze(trace_of(event("a", 0, 40), event("c", 60, 5)), 0, 100_000)
    changes = {change.name: change.slower_s for change in operator_changes(before, after)}
    assert ["a", "(no operator)", "b", "c"] == list(changes)
    assert pytest.approx([30e-6, -25e-6, -10e-6, 5e-6]) == list(changes.values())


def test_peaks_of_devices():
    """The longer name wins; what is not known has none."""
    assert (989e12, 835e12, 756e12) == tuple(map(peak_flops, ("NVIDIA H200", "NVIDIA H100 NVL", "NVIDIA H100 PCIe")))
    assert (312e12, 121e12) == (peak_flops("NVIDIA A100-SXM4-80GB"), peak_flops("NVIDIA L4"))
    assert (None, None) == (peak_flops("GeForce RTX 9999"), peak_flops(None))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"traceEvents": [{', '{"traceEvents": []}', '{"a": 1}', "\x1f\x8b"])
def test_what_is_no_trace(tmp_path, text):
    """Is refused with what is allowed."""
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(UnreadableTrace, match="Chrome trace as torch"):
        read_trace(path)


# -- torch's own, here ---------------------------------------------------------------------------------------------


def test_a_trace_of_torch(tmp_path):
    """As ``export_chrome_trace`` writes it, packed: self times are ``key_averages()``'s within 1 %, memory its own."""
    model = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    inputs = torch.randn(4, 16, 64)
    with torch.profiler.profile(record_shapes=True, with_flops=True, profile_memory=True) as profile:
        model(inputs).sum().backward()
    path = tmp_path / "trace.json.gz"
    profile.export_chrome_trace(str(path))
    trace = read_trace(path)
    table = tabulate(trace, *whole(trace))
    theirs = {row.key: row for row in profile.key_averages()}
    total_us = sum(row.self_cpu_time_total for row in theirs.values())
    assert pytest.approx(total_us, rel=0.01) == sum(row.self_s for row in table.rows) * 1e6
    for row in table.rows:
        assert pytest.approx(theirs[row.name].self_cpu_time_total, rel=0.01, abs=2) == row.self_s * 1e6
        assert theirs[row.name].self_cpu_memory_usage == row.memory
    assert analyze(trace, *whole(trace)).flops >= sum(row.flops for row in theirs.values() if "mm" in row.key)


def test_steps_that_torch_marked(tmp_path):
    """A trace with a schedule: the window is its last step."""
    path = tmp_path / "trace.json"
    schedule = torch.profiler.schedule(wait=1, warmup=1, active=2)
    with torch.profiler.profile(
        schedule=schedule, on_trace_ready=lambda p: p.export_chrome_trace(str(path))
    ) as profile:
        for _ in range(4):
            torch.ones(64, 64) @ torch.ones(64, 64)
            profile.step()
    trace = read_trace(path)
    start, end, _ = window_of(trace)
    assert {"aten::mm": 1, "aten::ones": 2}.items() <= {
        row.name: row.calls for row in tabulate(trace, start, end).rows
    }.items()


# -- spans of time -------------------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=8).map(
    lambda raw: [(start, start + length) for start, length in raw]
)


def moments(covered):
    """The whole ns that spans cover."""
    return {moment for start, end in covered for moment in range(start, end)}


@given(pairs, pairs, st.integers(0, 80), st.integers(0, 80))
def test_arithmetic_of_spans(left, right, one, other):
    """Union, gaps, clip, intersection and overlap are those of the sets of moments."""
    start, end = min(one, other), max(one, other)
    first, second = spans.union(spans.spans(left)), spans.union(spans.spans(right))
    assert moments(left) == moments(first.tolist())
    assert len(moments(left)) == spans.total_ns(first)
    inside = set(range(start, end))
    assert inside - moments(left) == moments(spans.gaps(first, start, end).tolist())
    assert inside & moments(left) == moments(spans.clip(first, start, end).tolist())
    assert moments(left) & moments(right) == moments(spans.intersection(first, second).tolist())
    assert [len(moments([pair]) & moments(right)) for pair in left] == spans.overlap_ns(
        spans.spans(left), second
    ).tolist()
