"""The parts of the stack: where each listens, how it is asked whether it is ready, and how it is started natively."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """One part. Ports are those of the containers, and of the processes without an offset."""

    name: str
    """As the compose file calls it."""
    program: str | None
    """The binary that is started natively; None for what only containers have."""
    ports: tuple[int, ...]
    health: tuple[int, str]
    """Port and path that answer 200 once it is ready."""
    page: int | None
    """The port of what a person looks at."""
    arguments: tuple[str, ...] = ()
    """Of the process; ``{data}`` is its own directory, ``{port}`` that of its page."""

    def health_url(self, offset: int = 0) -> str:
        """What to ask."""
        port, path = self.health
        return f"http://127.0.0.1:{port + offset}{path}"

    def page_url(self, offset: int = 0) -> str | None:
        """What to look at."""
        return None if self.page is None else f"http://127.0.0.1:{self.page + offset}"


SERVICES = (
    Service(
        "jaeger", "jaeger", (16686, 16685, 14317, 13134, 18889), (13134, "/status"), 16686,
        ("--config=stack/jaeger/config.yaml",),
    ),
    Service(
        "prometheus", "prometheus", (9090,), (9090, "/-/ready"), 9090,
        (
            "--config.file=stack/prometheus/prometheus.yml", "--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=10GB", "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage,native-histograms", "--web.listen-address=127.0.0.1:{port}",
        ),
    ),
    Service(
        "alertmanager", "alertmanager", (9093,), (9093, "/-/ready"), 9093,
        (
            "--config.file=stack/alertmanager/alertmanager.yml", "--storage.path={data}", "--cluster.listen-address=",
            "--web.listen-address=127.0.0.1:{port}",
        ),
    ),
    Service(
        "otel-collector", "otelcol", (4317, 4318, 13133, 18888), (13133, "/"), None,
        ("--config=collector-config/local.yaml",),
    ),
    Service("grafana", None, (3000,), (3000, "/api/health"), 3000),
)  # fmt: skip
"""In the order in which they are started."""


def environment(offset: int = 0) -> dict[str, str]:
    """What a training needs to send here."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{4318 + offset}"}
