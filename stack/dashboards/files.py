"""What is written: a file for each dashboard."""

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from stack.dashboards import fleet, itself, machine, ranks, run

DASHBOARDS = {"run": run, "machine": machine, "ranks": ranks, "fleet": fleet, "itself": itself}


def contents() -> dict[str, str]:
    """By file name."""
    return {
        f"{name}.json": JSONEncoder(sort_keys=True, indent=1).encode(each.build().build()) + "\n"
        for name, each in DASHBOARDS.items()
    }
