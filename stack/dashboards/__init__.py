"""Grafana's dashboards as code: ``python -m stack.dashboards`` writes them to ``stack/grafana/dashboards``."""
