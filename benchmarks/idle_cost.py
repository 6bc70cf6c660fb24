"""What otel_train costs where nothing is recorded: a disabled call, and ``import otel_train``.

python benchmarks/idle_cost.py
"""

import statistics
import subprocess
import sys
import timeit

import otel_train

NUMBER, REPEAT, IMPORTS = 200_000, 15, 15

CALLS = {
    "with trace_phase('forward'): …": "with trace_phase('forward'): pass",
    "with trace_step(): …": "with trace_step(): pass",
    "with trace_step(samples=8): …": "with trace_step(samples=8): pass",
    "log(loss=1.0)": "log(loss=1.0)",
    "a batch of trace_dataloader": "next(traced)",
    "a call of a @trace_phase function": "decorated()",
    "a call of a @trace_step function": "stepped()",
}

HEAVY = ["torch", "numpy", "opentelemetry.sdk", "opentelemetry.trace", "rich", "click", "yaml", "psutil", "pynvml"]


def calls() -> None:
    """ns of each disabled call, less the same without it."""
    import itertools

    def plain() -> None:
        pass

    names = {name: getattr(otel_train, name) for name in otel_train.__all__}
    names |= {
        "traced": iter(otel_train.trace_dataloader(itertools.repeat(1))),
        "untraced": itertools.repeat(1),
        "plain": plain,
        "decorated": otel_train.trace_phase("forward")(plain),
        "stepped": otel_train.trace_step(plain),
    }
    baselines = {"next(traced)": "next(untraced)", "decorated()": "plain()", "stepped()": "plain()"}
    print(f"Python {sys.version.split()[0]}, not recording: ns more than without it (goal: at most 100 a call)")
    print(f"  {'':38}{'in all':>8}{'calls':>8}{'a call':>8}   (a with-block is three: make, enter, exit)")
    for title, statement in CALLS.items():
        cost, base = (_best_ns(code, names) for code in (statement, baselines.get(statement, "pass")))
        count = 3 if statement.startswith("with") else 1
        print(f"  {title:38}{cost - base:8.0f}{count:8}{(cost - base) / count:8.0f}")


def _best_ns(statement: str, names: dict[str, object]) -> float:
    return min(timeit.repeat(statement, globals=names, number=NUMBER, repeat=REPEAT)) / NUMBER * 1e9


def imports() -> None:
    """ms of ``import otel_train`` beyond the interpreter, alternating with an empty program."""
    measure = "import time; start = time.perf_counter(); import otel_train; print((time.perf_counter() - start) * 1000)"
    times = [float(_output(measure)) for _ in range(IMPORTS)]
    print(
        f"import otel_train: minimum {min(times):.1f} ms, median {statistics.median(times):.1f} ms (goal: at most 20)"
    )
    loaded = _output(f"import otel_train, sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    print(f"heavy modules that it loads: {loaded.strip()} (goal: [])")


def _output(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    calls()
    imports()
