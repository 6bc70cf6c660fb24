"""How long after its cause each built-in alert fires, whether it is over with it, and what else fires.

    python benchmarks/alert_times.py

The causes are those of ``tests/alert_causes.py``: runs written down step by step, after five healthy
minutes, and judged every five seconds as a run that goes on is.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from alert_causes import CAUSES, Run

from otel_train.alerts.replay import replay
from otel_train.alerts.rules import built_in
from otel_train.alerts.wording import duration

HEALTHY_S = 300


def main() -> None:
    """Print the table."""
    print("| rule | has to hold | fired after | over | besides |\n|---|---|---|---|---|")
    missed = 0
    for name, rule in built_in().items():
        run = CAUSES[name](Run(Path(mkdtemp())).go(HEALTHY_S))
        changes = list(replay(run.builder.log, [*built_in().values()]))
        own = [each for each in changes if each.change.rule.name == name]
        others = sorted({each.change.rule.name for each in changes} - {name})
        fired = [each.time_ns / 1e9 - HEALTHY_S for each in own if not each.change.resolved]
        missed += not fired
        after = duration(fired[0]) if fired else "missed"
        over = "yes" if any(each.change.resolved for each in own) else "no"
        print(f"| `{name}` | {duration(rule.for_s) if rule.for_s else 'at once'} | {after} | {over} | "
              f"{', '.join(others) or '–'} |")  # fmt: skip
    print(f"\n{len(CAUSES)} causes: {len(CAUSES) - missed} fired, {missed} missed")


if __name__ == "__main__":
    main()
