"""What ranks, or runs, do not agree on is said in plain sentences; what one does not say is no disagreement."""

import json

import pytest
from click.testing import CliRunner
from scaling_runs import build_ranks

from otel_train.cli import group
from otel_train.derive.agreement import facts, missing_ranks, rank_disagreements, run_disagreements

IDENTITY = {
    "service_name": "train", "world_size": 2, "otel_train_version": "0.1.0",
    "settings": {"level": "phases", "dir": "/a"},
    "hardware": {"cpu": {"model": "Xeon"}, "gpus": [{"model": "H100"}, {"model": "H100"}]},
    "software": {"python": "3.12.1", "torch": "2.11.0", "cuda": "13.0"},
    "git": {"commit": "0123456789abcdef", "dirty": False},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"service_name": "other"}, "The ranks differ in service name: train (rank 0); other (rank 1)."),
        ({"world_size": 4, "rank": 1}, "The ranks differ in world size: 2 (rank 0); 4 (rank 1)."),
        ({"otel_train_version": "0.2.0"}, "The ranks differ in otel_train: 0.1.0 (rank 0); 0.2.0 (rank 1)."),
        ({"software": {"torch": "2.10.0"}}, "The ranks differ in torch: 2.11.0 (rank 0); 2.10.0 (rank 1)."),
        ({"software": {"python": "3.10.4"}}, "The ranks differ in python: 3.12.1 (rank 0); 3.10.4 (rank 1)."),
        ({"hardware": {"cpu": {"model": "Epyc"}}}, "The ranks differ in CPU: Xeon (rank 0); Epyc (rank 1)."),
        ({"hardware": {"gpus": [{"model": "A100"}]}}, "The ranks differ in GPUs: H100 (rank 0); A100 (rank 1)."),
        (
            {"git": {"commit": "f" * 40}},
            "The ranks differ in git commit: 0123456789ab (rank 0); ffffffffffff (rank 1).",
        ),
        ({"settings": {"level": "gpu"}}, "The ranks differ in setting level: phases (rank 0); gpu (rank 1)."),
    ],
)
def test_each_fact_is_compared(changes, sentence):
    """Program, world size, versions, machine, commit, settings."""
    assert sentence in rank_disagreements({0: IDENTITY, 1: IDENTITY | changes})


def test_what_is_not_told_is_no_disagreement():
    """A rank whose run.json was not completed (it died in its first second), another directory of runs."""
    bare = {"world_size": 2, "settings": {"dir": "/b"}}
    assert () == rank_disagreements({0: IDENTITY, 1: bare})
    assert {} == facts({})


def test_many_ranks_are_counted():
    """More than eight are not named."""
    ranks = {rank: IDENTITY | {"world_size": 12} for rank in range(12)}
    ranks[3] = ranks[3] | {"software": {"torch": "2.0"}}
    assert ("The ranks differ in torch: 2.11.0 (11 ranks); 2.0 (rank 3).",) == rank_disagreements(ranks)


def test_runs_may_differ_in_world_size():
    """That is what scaling compares; a run whose own ranks differ counts with all that they have."""
    mixed = [IDENTITY, IDENTITY | {"hardware": {"cpu": {"model": "Epyc"}}}]
    found = run_disagreements({"a": [IDENTITY | {"world_size": 1}], "b": mixed})
    assert {"CPU": "The runs differ in CPU: Xeon (run a); Epyc, Xeon (run b)."} == found


def test_missing_ranks_are_said_in_the_report(tmp_path):
    """Eight by the world size, seven on record: on the terminal, and in the JSON."""
    run = build_ranks(tmp_path, "run", [lambda number: {"forward": 1}] * 7, world_size=8)
    sentence = (
        "The world size is 8, but 7 ranks are recorded here: rank 7 is missing. Sums are of the recorded ranks only."
    )
    assert ([7], (sentence,)) == (missing_ranks(run.identities), run.disagreements)
    shown = CliRunner().invoke(group, ["report", "run", "--dir", str(tmp_path)]).output
    assert sentence in " ".join(shown.split())
    told = json.loads(CliRunner().invoke(group, ["report", "run", "--dir", str(tmp_path), "--json"]).output)
    assert [sentence] == told["disagreements"]


def test_waiting_is_said_in_the_report(tmp_path):
    """Both ranks' steps take 10 ms, but the second computes for 9 of them and the first for 5."""
    fast, slow = {"forward": 4, "backward": 6}, {"forward": 8, "backward": 2}
    build_ranks(tmp_path, "run", [lambda number: fast, lambda number: slow])
    shown = " ".join(CliRunner().invoke(group, ["report", "run", "--dir", str(tmp_path)]).output.split())
    assert "ranks wait 20.0 % of the step time for the slowest: rank 1 comes last in 100.0 % of the steps" in shown
    assert "equally fast" not in shown
    told = json.loads(CliRunner().invoke(group, ["report", "run", "--dir", str(tmp_path), "--json"]).output)
    assert [0.004, 0] == pytest.approx([rank["waiting"]["mean_s"] for rank in told["ranks"]])


def test_totals_of_ranks_are_summed_and_the_slowest_gives_the_wall_clock(tmp_path):
    """Two ranks of 40 steps, one of 10 and one of 20 ms: 80 steps, 2560 samples, 0.8 s."""
    run = build_ranks(tmp_path, "run", [lambda number: {"forward": 10}, lambda number: {"forward": 20}])
    counts, span = run.merged.counts, run.merged.span
    assert (80, 2560, 0.8) == (counts.training, counts.samples, pytest.approx(span.wall_s))
    assert 2560 / 0.8 == pytest.approx(run.merged.samples_per_s.wall)
    assert 64 / 0.02 == pytest.approx(run.mean_step.samples / run.mean_step.step_s)
