"""Write the dashboards."""

from pathlib import Path

from stack.dashboards.files import contents

TARGET = Path(__file__).parents[1] / "grafana" / "dashboards"

for name, text in contents().items():
    (TARGET / name).write_text(text)
