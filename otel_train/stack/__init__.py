"""The local stack: a collector, Jaeger, Prometheus, Alertmanager and Grafana, in containers or as plain processes.

``files`` has what is shipped, ``services`` who listens where, ``compose`` and ``native`` bring them up, ``build`` makes
the programs where there are no containers.
"""
