"""Grafana's published types of data sources and options, which provisioning files are held against: run it to fetch.

They are TypeScript; their packages are unpacked without what they depend on, since only types are read.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from otel_train.stack.programs import cache

PACKAGES = (
    "@grafana/data@13.2.0", "@grafana/schema@13.2.0", "@grafana/prometheus@13.2.1", "@grafana/o11y-ds-frontend@13.2.1",
    "typescript@5.9.3",
)  # fmt: skip
"""Of the Grafana that docker-compose.yml pins, or the nearest after it that was published."""
FOLDER = cache() / f"grafana-types-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"

PROGRAM = """
import type { DataSourceSettings } from "@grafana/data";
import type { PromOptions } from "@grafana/prometheus";
import type { NodeGraphData, TraceToMetricsData } from "@grafana/o11y-ds-frontend";

// As YAML has it: an enumeration's member is its text.
type Written<T> = T extends string ? `${T}` : T extends (infer Each)[] ? Written<Each>[]
  : T extends object ? { [Key in keyof T]: Written<T[Key]> } : T;
type Provisioned<Type extends string, Options extends object> = Written<
  Pick<DataSourceSettings<Options>, "name" | "access" | "url" | "uid" | "jsonData">
  & Partial<DataSourceSettings<Options>>> & { type: Type };

const read: (Provisioned<"prometheus", PromOptions> | Provisioned<"jaeger", NodeGraphData & TraceToMetricsData>)[] =
"""


def mistakes(datasources: list[dict], folder: Path) -> str:
    """What TypeScript says of them: an unknown or lacking field, a wrong type, a value that is not allowed; else ''."""
    program = folder / "datasources.ts"
    program.write_text(f"{PROGRAM.strip()} {json.dumps(datasources, indent=2)};\n")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    done = subprocess.run(
        ["node", str(FOLDER / "node_modules" / "typescript" / "bin" / "tsc"), "--noEmit", "--strict", "--skipLibCheck",
         "--module", "esnext", "--moduleResolution", "bundler", str(program)],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert (0 == done.returncode) == (not done.stdout), done.stderr
    return done.stdout


def fetch() -> None:
    """Unpack the packages, all of them or none. Takes seconds."""
    unfinished = FOLDER.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    subprocess.run(["npm", "pack", "--silent", *PACKAGES], cwd=unfinished, check=True)
    for package in PACKAGES:
        name, version = package.rsplit("@", 1)
        archive = unfinished / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        to = unfinished / "node_modules" / name
        with tarfile.open(archive) as content:
            content.extractall(to.parent, filter="data")
        (to.parent / "package").rename(to)
        archive.unlink()
    unfinished.rename(FOLDER)


if __name__ == "__main__" and not FOLDER.is_dir():
    fetch()
