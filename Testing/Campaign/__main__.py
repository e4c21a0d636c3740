"""python -m Testing.Campaign [--only inputs,…] [--count N] [--seed S] [--json F]: what happens when things go wrong.

- inputs: damaged videos, landmarks, models, cameras, volumes, cases, lists: a result or one sentence, in 60 s and 4 GB.

Its last table is in docs/trust.md. Each trial depends on its number and the seed alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path


def main() -> int:
    """Run what was asked for; returns 1 if there were faults."""
    parser = argparse.ArgumentParser(
        prog="python -m Testing.Campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400, help="damaged inputs (default 400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that gets the trials that went wrong")
    parser.add_argument("--folder", type=Path, help="keep the sound inputs here, and use those that are there")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    from .inputs import campaign, summary

    with tempfile.TemporaryDirectory() as temporary:
        trials = campaign(options.count, options.seed, options.folder or Path(temporary), options.keep)
    rows = summary(trials)
    print("| input | trials | results | refused in a sentence | faults | longest | most memory |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps({"inputs": rows}, indent=1))
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
