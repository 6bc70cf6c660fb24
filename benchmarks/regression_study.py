"""How often ``otel-train compare`` takes equal runs for different ones, and how often it finds 5 % in one phase.

    python benchmarks/regression_runs.py DIR char_gpt && python benchmarks/regression_runs.py DIR digits
    python benchmarks/regression_study.py DIR

Pairs of runs: each two of the ``same`` ones, and each of these with each that has more work in a phase. Sides of
several runs are drawn from these, no run for both. The first table is what verdicts on the step alone would be; the
last is how often the wrong way round is told where the recorded times of two phases change together.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from regression_runs import CASES, SAME, Case

from otel_train.derive.comparison import Comparison, compare
from otel_train.derive.difference import FASTER, MEAN, MEDIAN, NO_DIFFERENCE, SLOWER, TOO_LITTLE, difference_of
from otel_train.derive.fingerprint import Fingerprint, PhaseTimes, fingerprint
from otel_train.runlog.runs import Run

DRAWN = 210
SIDES = (1, 1), (5, 1), (3, 3), (5, 5), (7, 7), (10, 10)
TOGETHER = ("forward", "backward"), ("forward", "optimizer"), ("backward", "optimizer")
FACTORS = 0.9, 0.95, 1.05, 1.1
Side = Sequence[Fingerprint]
Runs = dict[str, list[Fingerprint]]


def read(directory: Path, case: Case) -> Runs:
    """The fingerprints of a case's runs that are over, by kind."""
    runs: Runs = {kind: [] for kind in case.kinds}
    for path in sorted(directory.glob("*-*/")):
        if Run(path).ranks()[0].identity.get("end"):
            runs[path.name.rpartition("-")[0]].append(fingerprint(Run(path)))
    return runs


def pairs(runs: Runs, kind: str) -> list[tuple[Side, Side]]:
    """One run a side."""
    same = [[run] for run in runs[SAME]]
    if kind == SAME:
        return list(itertools.combinations(same, 2))
    return [(before, [after]) for before in same for after in runs[kind]]


def drawn(runs: Runs, kind: str, before: int, after: int) -> list[tuple[Side, Side]]:
    """So many runs on each side; nothing where there are too few."""
    others = runs[kind] if kind != SAME else []
    if len(runs[SAME]) < before + after * (kind == SAME) or (kind != SAME and len(others) < after):
        return []
    generator, found = np.random.default_rng(1), []
    for _ in range(DRAWN):
        order = [runs[SAME][at] for at in generator.permutation(len(runs[SAME]))]
        second = [others[at] for at in generator.permutation(len(others))] or order[before:]
        found.append((order[:before], second[:after]))
    return found


def told(comparisons: Iterable[Comparison], kind: str) -> str:
    """The cells of a row: verdicts, and how often slower with the right phase."""
    found = list(comparisons)
    verdicts = Counter(each.verdict for each in found)
    right = [each for each in found if each.verdict == SLOWER and each.phases[0].name == kind]
    shares = [verdicts[name] / len(found) for name in (SLOWER, FASTER, NO_DIFFERENCE, TOO_LITTLE)]
    cells = [f"{len(found)}", *(f"{share:.1%}" for share in shares)]
    return " | ".join([*cells, "" if kind == SAME else f"{len(right) / len(found):.1%}"])


def by_the_step(runs: Runs) -> None:
    """What verdicts on the median or mean step would be, with intervals that know neighbours but not repetitions."""
    for statistic in (MEDIAN, MEAN):
        values = [np.log(run.estimates[statistic].value) for run in runs[SAME]]
        row = [f"{np.std(values, ddof=1):.1%}"]
        for kind in runs:
            found = [difference_of([a.estimates[statistic]], [b.estimates[statistic]]).verdict
                     for (a,), (b,) in pairs(runs, kind)]  # fmt: skip
            wrong = (SLOWER, FASTER) if kind == SAME else (SLOWER,)
            row.append(f"{np.mean([verdict in wrong for verdict in found]):.1%}")
        print(f"| {statistic} | {' | '.join(row)} |")


def scaled(run: Fingerprint, factors: Mapping[str, float]) -> Fingerprint:
    """The run as if some phases had taken so many times as long, and its steps as much more or less."""
    phases = {}
    for name, each in run.phases.items():
        by = factors.get(name, 1.0)
        stretches = {key: [by * value for value in values] for key, values in each.stretches_s.items()}
        phases[name] = PhaseTimes({key: by * value for key, value in each.times_s.items()}, stretches)
    more_s = sum(phases[name].times_s[MEAN] - each.times_s[MEAN] for name, each in run.phases.items())
    longer = 1 + more_s / run.estimates[MEAN].value
    estimates = {
        key: replace(each, value=longer * each.value, error=longer * each.error) for key, each in run.estimates.items()
    }
    quantiles = {key: longer * value for key, value in run.quantiles_s.items()}
    return replace(run, phases=phases, estimates=estimates, quantiles_s=quantiles)


def wrong_way_round(runs: Runs, names: Sequence[str], factor: float, before: int, after: int) -> str:
    """How often equal sides of which the second's phases are scaled are said to differ the other way."""
    factors, wrong = dict.fromkeys(names, factor), FASTER if factor > 1 else SLOWER
    sides = pairs(runs, SAME) if before == after == 1 else drawn(runs, SAME, before, after)
    found = [compare(first, [scaled(run, factors) for run in second]).verdict for first, second in sides]
    return f"{found.count(wrong) / len(found):.1%}" if found else ""


def together(runs: Runs) -> None:
    """The last table."""
    print(f"\n| wrong way round, phases times {' | '.join(f'{factor:g}' for factor in FACTORS)} |")
    print("|---|" + "---:|" * len(FACTORS))
    for names, counts in itertools.product(TOGETHER, SIDES[:4]):
        cells = " | ".join(wrong_way_round(runs, names, factor, *counts) for factor in FACTORS)
        print(f"| {' and '.join(names)}, {counts[0]} and {counts[1]} | {cells} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    for name, case in CASES.items():
        runs = read(arguments.directory / name, case)
        if min(map(len, runs.values())) < 3 or len(runs[SAME]) < 6:
            print(f"{name}: too few runs", file=sys.stderr)
            continue
        steps = int(np.median([run.steps for run in runs[SAME]]))
        counts = ", ".join(f"{len(each)} {kind}" for kind, each in runs.items())
        print(f"\n{name}: {counts}; {steps} steady steps each\n")
        print(f"| by the step alone | runs differ by | false alarms | slower: {' | '.join(case.phases)} |")
        print("|---|---:|---:|---:|---:|---:|")
        by_the_step(runs)
        print("\n| runs | more work in | pairs | slower | faster | no difference | too little data | right phase |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        for counts in SIDES:
            for kind in case.kinds:
                sides = pairs(runs, kind) if counts == (1, 1) else drawn(runs, kind, *counts)
                if sides:
                    found = told((compare(before, after) for before, after in sides), kind)
                    print(
                        f"| {counts[0]} and {counts[1]} | {'nothing' if kind == SAME else kind} | {found} |", flush=True
                    )
        if not case.on_gpu:
            together(runs)


if __name__ == "__main__":
    main()
