"""What turns records into OpenTelemetry's spans, metrics and log records. With ``export``, all that imports it."""
