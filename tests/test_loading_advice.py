"""Advice on the input from the record, and what it would gain."""

import io
import json

import pytest
from log_builder import MS, LogBuilder
from rich.console import Console

from otel_train.derive.input_queue import predict
from otel_train.derive.loading_advice import advise, recorded_workload, spread
from otel_train.derive.summary import summarize_run
from otel_train.report.as_json import run_as_dict
from otel_train.report.terminal import print_report
from otel_train.resource_names import (
    CHILDREN_CPU_TIME,
    CPU_LOGICAL_COUNT,
    PROCESS_CPU_UTILIZATION,
    series,
)
from otel_train.runlog.runs import Run

STEPS = 60


def recorded(folder, wait_ms, work_ms, workers, fetch_ms, cpus=8, children_cpu_s=0.0, process_cpus=0.1, **loader):
    """A run whose every step waited and worked so long."""
    log = LogBuilder(folder, hardware=loader.pop("hardware", {}))
    for step in range(STEPS):
        log.step(step, round((wait_ms + work_ms) * MS), [("data_wait", 0, wait_ms * MS)])
        if step % 10 == 9:
            row = {
                (CPU_LOGICAL_COUNT, ()): cpus,
                (CHILDREN_CPU_TIME, ()): children_cpu_s,
                series(PROCESS_CPU_UTILIZATION, cpu__mode="user"): process_cpus,
            }
            log.resources(log.end_ns - MS, row)
    told = {
        "dl.data_loader.dataset": "Numbers",
        "dl.data_loader.workers": workers,
        "dl.data_loader.pin_memory": False,
        "dl.data_loader.batch_size": 8,
        "dl.data_loader.trains": True,
        "dl.data_loader.batch.count": STEPS,
        "dl.data_loader.dataset.time": fetch_ms * STEPS / 1e3,
        "dl.data_loader.collate.time": 0.0,
        "dl.data_loader.slowest_worker.fetch_time": fetch_ms / 1e3,
        "dl.data_loader.longest_fetch": fetch_ms / 1e3,
        **loader,
    }
    log.event("data_loader", log.end_ns, attributes=told)
    return summarize_run(Run(folder / "run-a"))


def test_blocked_fetches_ask_for_workers(tmp_path):
    """40 ms blocked and 10 ms of work without workers: four of them, or a few more, for five times the throughput."""
    run = recorded(tmp_path, 40, 10, 0, 40)
    (advice,) = advise(run.loading_facts)
    assert ("num_workers", 0, 4) == (advice.setting, advice.now, advice.to)
    assert 5.0 == pytest.approx(advice.gain, rel=0.03)
    assert "40 ms to fetch, 10 % of it computing, and 10 ms to be worked on, on 8 CPUs: 20 batches/s now" in advice.why


def test_computing_fetches_are_bounded_by_the_cpus(tmp_path):
    """The same on 2 CPUs, all of it computing: no more than their time, 50 ms a batch, gives."""
    run = recorded(tmp_path, 40, 10, 0, 40, cpus=2, process_cpus=1.0)
    (advice,) = advise(run.loading_facts)
    assert "num_workers" == advice.setting
    assert 2.0 == pytest.approx(advice.gain, rel=0.03)


def test_workers_that_do_not_keep_up(tmp_path):
    """Two workers, a batch every 20 ms where 10 are worked on: the gain is over what was recorded."""
    run = recorded(tmp_path, 10, 10, 2, 40)
    (advice,) = advise(run.loading_facts)
    assert ("num_workers", 2, 4) == (advice.setting, advice.now, advice.to)
    assert 2.0 == pytest.approx(advice.gain, rel=0.03)


def test_the_model_starts_from_the_recorded_throughput(tmp_path):
    """Workers that got less done than their fetches tell: the model is fitted to what came of them."""
    facts = recorded(tmp_path, 30, 10, 2, 40).loading_facts
    assert 25.0 == pytest.approx(facts.batches_per_s)
    assert 25.0 == pytest.approx(predict(recorded_workload(facts), 2).batches_per_s, rel=0.02)


def test_enough_workers_need_no_advice(tmp_path):
    """Nothing to gain is nothing to say."""
    assert [] == advise(recorded(tmp_path, 0.1, 10, 4, 20).loading_facts)


def test_far_more_workers_than_needed(tmp_path):
    """Are said to be, with no gain."""
    (advice,) = advise(recorded(tmp_path, 0.1, 10, 16, 15, cpus=32).loading_facts)
    assert ("num_workers", 16, 1.0) == (advice.setting, advice.now, advice.gain)
    assert advice.to < 8


def test_one_slow_worker_is_in_the_model(tmp_path):
    """Of two workers one takes three times as long as the mean of the others."""
    run = recorded(tmp_path, 15, 5, 2, 40, **{"dl.data_loader.slowest_worker.fetch_time": 0.06})
    assert {1: 3.0} == pytest.approx(recorded_workload(run.loading_facts).slower)
    assert "one worker takes 3.0 times as long" in advise(run.loading_facts)[0].why


def test_threads_and_workers_that_want_more_than_there_is(tmp_path):
    """Training on 4 CPUs' worth of threads beside two computing workers, on four CPUs."""
    run = recorded(tmp_path, 10, 10, 2, 40, cpus=4, children_cpu_s=0.04 * STEPS, process_cpus=2.0)
    (advice,) = [each for each in advise(run.loading_facts) if each.setting == "torch.set_num_threads"]
    assert (2, None) == (advice.to, advice.gain)


def test_without_what_it_takes_there_is_no_advice(tmp_path):
    """No fetch timed, too few steps: nothing is known, and nothing is said."""
    log = LogBuilder(tmp_path)
    log.step(0, 10 * MS, [("data_wait", 0, 5 * MS)])
    run = summarize_run(Run(tmp_path / "run-a"))
    assert run.loading_facts is None
    assert [] == advise(run.loading_facts)


def test_memory_left_on_the_gpu_and_copies(tmp_path):
    """A larger batch is worth a try, of unknown gain; what pinning gains is at most what copying takes."""
    log = LogBuilder(tmp_path, hardware={"gpus": [{"model": "GPU", "memory_bytes": 80 << 30}]})
    for step in range(STEPS):
        log.step(step, 20 * MS, [("data_wait", 0, 1 * MS), ("host_to_device", MS, 5 * MS)])
        log.gpu(step, {"forward": 5 * MS}, (0, 1 << 30, 2 << 30, 8 << 30))
    attributes = {"dl.data_loader.workers": 2, "dl.data_loader.pin_memory": False, "dl.data_loader.batch_size": 8,
                  "dl.data_loader.trains": True, "dl.data_loader.batch.count": STEPS,
                  "dl.data_loader.dataset.time": 1.0}  # fmt: skip
    log.event("data_loader", log.end_ns, attributes=attributes)
    found = {each.setting: each for each in advise(summarize_run(Run(tmp_path / "run-a")).loading_facts)}
    assert {"pin_memory", "batch_size"} == set(found)
    assert (4 / 3, True) == (pytest.approx(found["pin_memory"].gain), found["pin_memory"].at_most)
    assert (16, None) == (found["batch_size"].to, found["batch_size"].gain)


def test_workers_that_are_started_again_and_again(tmp_path):
    """Four starts of 200 ms in a run of four seconds: all but the first could be saved."""
    log = LogBuilder(tmp_path)
    for epoch in range(4):
        log.event("phase", log.end_ns, 200 * MS, attributes={"dl.phase": "data_loader_start"})
        for step in range(20):
            start = log.end_ns + (200 * MS if step == 0 else 0)
            log.step(20 * epoch + step, 40 * MS, [("data_wait", 0, 1 * MS)], start_ns=start)
    attributes = {"dl.data_loader.workers": 2, "dl.data_loader.trains": True, "dl.data_loader.batch.count": 80,
                  "dl.data_loader.dataset.time": 0.4}  # fmt: skip
    log.event("data_loader", log.end_ns, attributes=attributes)
    (advice,) = advise(summarize_run(Run(tmp_path / "run-a")).loading_facts)
    assert ("persistent_workers", True) == (advice.setting, advice.to)
    assert 3.8 / (3.8 - 0.6) == pytest.approx(advice.gain)


def test_the_report_says_it(tmp_path):
    """In words for people, and in keys for programs."""
    run = recorded(tmp_path, 40, 10, 0, 40)
    console = Console(width=100, file=io.StringIO())
    print_report(run, console)
    text = console.file.getvalue()
    assert "What to set" in text
    assert "num_workers=4 (now 0), +4" in text
    (advice,) = json.loads(json.dumps(run_as_dict(run)))["advice"]
    assert {"setting", "now", "to", "gain", "at_most", "why"} == set(advice)


def test_the_spread_has_the_mean_and_reaches_the_longest():
    """Fetches that stand for the recorded ones: their mean is the recorded one, the longest comes near."""
    values = spread(0.02, 0.1, 100)
    assert 0.02 == pytest.approx(sum(values) / len(values))
    assert 0.1 == pytest.approx(max(values), rel=0.35)
    assert values == spread(0.02, 0.1, 100)
    assert (0.02,) == spread(0.02, 0.02, 100)
    assert (0.02,) == spread(0.02, 0.02, 1)
