"""Asking the real programs: Jaeger's query API and Prometheus'."""

import threading
import time
from dataclasses import dataclass

import requests

from otel_train.stack import native

LONGEST_S = 120


@dataclass(frozen=True)
class Stack:
    """One that is up: its directory, and what its ports are moved by."""

    directory: object
    offset: int

    @property
    def otlp(self):
        """Where a training sends."""
        return f"http://127.0.0.1:{4318 + self.offset}"

    def steps(self, run_id, rank, expected):
        """The spans ``dl.step`` of a rank, once there are so many."""
        return until(lambda: [span for span in self.spans(run_id, "dl.step") if span["rank"] == rank], expected)

    def spans(self, run_id, operation=None):
        """Spans of a run, each with ``tags`` as a dict, its process's under ``resource``, and its ``rank``."""
        parameters = {"service": run_id, "limit": 20000, "lookback": "1h"}
        if operation:
            parameters["operation"] = operation
        answer = self._get(16686, "/api/traces", **parameters)
        found = []
        for trace in answer["data"] or ():
            for span in trace["spans"]:
                if operation in (None, span["operationName"]):
                    resource = {tag["key"]: tag["value"] for tag in trace["processes"][span["processID"]]["tags"]}
                    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
                    found.append({**span, "tags": tags, "resource": resource, "rank": resource["dl.rank"]})
        return found

    def query(self, expression):
        """What Prometheus answers now: labels and number of each series."""
        rows = self._get(9090, "/api/v1/query", query=expression)["data"]["result"]
        return [(row["metric"], float(row["value"][1]) if "value" in row else row["histogram"][1]) for row in rows]

    def value(self, expression, expected):
        """The only series' value, once it is that."""
        return until(lambda: [value for _, value in self.query(expression)], 1, lambda found: found == [expected])

    def range_of(self, expression, start, end, step):
        """The series' values over a range."""
        rows = self._get(9090, "/api/v1/query_range", query=expression, start=start, end=end, step=step)
        return rows["data"]["result"]

    def ask(self, path, **parameters):
        """Another path of Prometheus' API."""
        return self._get(9090, path, **parameters)["data"]

    def alertmanager(self):
        """The alerts that it has."""
        return self._get(9093, "/api/v2/alerts")

    def process(self, name):
        """One of its parts."""
        return next(each for each in native.processes(self.directory) if each.name == name)

    def _get(self, port, path, **parameters):
        answer = requests.get(f"http://127.0.0.1:{port + self.offset}{path}", parameters, timeout=30)
        assert answer.ok, answer.text
        return answer.json()


def until(look, expected, fits=None):
    """Look until there are so many (or it fits); fails with what there was."""
    end = time.monotonic() + LONGEST_S
    while True:
        found = look()
        if fits(found) if fits else len(found) >= expected:
            return found
        assert time.monotonic() < end, f"expected {expected}, got {len(found)}: {str(found)[:500]}"
        threading.Event().wait(0.1)
