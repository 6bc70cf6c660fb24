"""What is written: a file for each dashboard."""

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from stack.dashboards import fleet, itself, machine, ranks, run

DASHBOARDS = {"run": run, "machine": machine, "ranks": ranks, "fleet": fleet, "itself": itself}


def contents() -> dict[str, str]:
    """By file name."""
    return {
        f"{name}.json": JSONEncoder(sort_keys=True, indent=1).encode(each.build().build()) + "\n"
        for name, each in DASHBOARDS.items()
    }


def queries(text: str) -> list[tuple[str, str]]:
    """Of a dashboard's file: the panel's title and each expression."""
    panels = [panel for row in json.loads(text)["panels"] for panel in [row, *row.get("panels", ())]]
    return [(panel.get("title", ""), target["expr"]) for panel in panels for target in panel.get("targets", ())]
