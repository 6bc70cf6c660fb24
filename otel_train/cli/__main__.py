"""``python -m otel_train.cli``: the command line where ``otel-train`` is not on the path."""

from otel_train.cli import main

if __name__ == "__main__":
    main()
