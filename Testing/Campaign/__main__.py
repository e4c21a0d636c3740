"""python -m Testing.Campaign [--only inputs,…] [--count N] [--seed S] [--json F]: what happens when things go wrong.

- kills: runs that are killed at random moments, ten times each, and run again: the result of an undisturbed run.
- repeats: the sample's draft again and again: how far its surfaces lie apart.
- load: a film of two minutes in 4K, ten times the frames, a slow disk.
- inputs: damaged videos, landmarks, models, cameras, volumes, cases, lists: a result or one sentence, in 60 s and 4 GB.

Its last table is in docs/trust.md. Each trial depends on its number and the seed alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

PARTS = ("inputs", "kills", "repeats", "load")


def main() -> int:
    """Run what was asked for; returns 1 if there were faults."""
    parser = argparse.ArgumentParser(
        prog="python -m Testing.Campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument(
        "--count", type=int, default=400, help="damaged inputs; a quarter as many kills, a fortieth as many repeats (default 400)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the sound inputs here, and use those that are there")
    parser.add_argument("--keep", type=Path, help="folder that gets the damaged inputs that went wrong")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"unknown parts: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    from . import inputs, kills, load, repeats

    tables: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if "inputs" in parts:
            tables["inputs"] = inputs.summary(inputs.campaign(options.count, options.seed, folder, options.keep))
        if "kills" in parts:
            tables["kills"] = kills.campaign(max(1, options.count // 4), options.seed, folder)
        if "repeats" in parts:
            tables["repeats"] = repeats.campaign(max(2, options.count // 40), folder)
        if "load" in parts:
            tables["load"] = load.campaign(options.seed, folder)
    for rows in tables.values():
        print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1))
    return int(any(row["faults"] for rows in tables.values() for row in rows))


def print_table(rows: list[dict]) -> None:
    """Print rows of the same keys as Markdown."""
    print("\n| " + " | ".join(rows[0]).replace("_", " ") + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


if __name__ == "__main__":
    raise SystemExit(main())
