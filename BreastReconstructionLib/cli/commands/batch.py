"""Many videos by one list, for a clinic's archive; on this machine, as a Slurm array, or on a Dask cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...capabilities.torso import TORSO
from ...capabilities.torso.stages import REPORT
from ...core.batch import Row, RowOutcome, executor, read_list, run_rows
from ...core.case import Case
from ...core.commands import Commands, whole_number
from ...core.console import Console
from ...core.errors import BatchError, BreastReconstructionError, OptionError
from ...core.files import write_table
from ...core.threads import cores

MOST_AT_ONCE = 256


def add(commands: Commands) -> None:
    """Add the command."""
    words = "reconstruct every video of a list; run again to go on with what is not done"
    batch = commands.add("batch", words, _batch)
    batch.add_argument("list", type=Path, metavar="LIST.csv", help="columns: case, video, landmarks, marker or distance, …")
    table = "table of results (default: LIST-results.csv beside the list)"
    batch.add_argument("-o", "--output", type=Path, metavar="FILE", help=table)
    at_once = "so many at a time; each takes up to 2 GB of memory (default 1)"
    batch.add_argument("--at-once", type=whole_number(1, MOST_AT_ONCE), default=1, metavar="N", help=at_once)
    row = "only this row, counted from 1, and no table: for a job of a Slurm array"
    batch.add_argument("--row", type=whole_number(1, 10**6), metavar="N", help=row)
    batch.add_argument("--dask", metavar="ADDRESS", help="on the workers of this Dask scheduler, which see the same folders")


def _batch(options: argparse.Namespace, console: Console) -> None:
    rows = read_list(options.list, TORSO.stages)
    wanted = rows
    if options.row is not None:
        wanted = [row for row in rows if row.number == options.row]
        if not wanted:
            raise OptionError(f"The list {options.list.name} has {len(rows)} rows; there is no row {options.row}.")
    table = options.output or options.list.with_name(f"{options.list.stem}-results.csv")
    threads = 0 if options.dask else max(1, cores() // options.at_once)
    progress = console.progress("batch")
    outcomes: dict[int, RowOutcome] = {}
    try:
        with executor(options.at_once, options.dask) as workers:
            for row, outcome in run_rows(wanted, TORSO, REPORT, workers, threads, console.token):
                outcomes[row.number] = outcome
                progress.report(len(outcomes) / len(wanted), _words(row, outcome))
    finally:
        if options.row is None:
            write_table(table, [_cells(row, outcomes.get(row.number)) for row in rows])
    _say(console, wanted, outcomes, None if options.row else table)


def _say(console: Console, wanted: list[Row], outcomes: dict[int, RowOutcome], table: Path | None) -> None:
    failed = [row for row in wanted if outcomes[row.number].code != 0]
    where = f" The table is in {table}." if table else ""
    if not failed:
        console.say(f"{len(wanted)} of {len(wanted)} rows are done.{where}", done=len(wanted), failed=0)
        return
    first = failed[0]
    raise BatchError(
        f"{len(failed)} of {len(wanted)} rows failed; the first is row {first.number}: {outcomes[first.number].message}{where}"
    )


def _words(row: Row, outcome: RowOutcome) -> str:
    return f"row {row.number}, {row.case.name}: {outcome.message or 'done'}"


def _cells(row: Row, outcome: RowOutcome | None) -> dict[str, Any]:
    """One line of the table."""
    state = "not done" if outcome is None else "done" if outcome.code == 0 else "failed"
    cells: dict[str, Any] = {"row": row.number, "case": row.case.name, "state": state}
    if outcome is not None:
        cells |= {"exit_code": outcome.code, "seconds": outcome.seconds}
    try:
        numbers = Case(row.case).result(REPORT).numbers if state == "done" else None
    except BreastReconstructionError:
        numbers = None
    if numbers is not None:
        surface, scale, frames = numbers["surface"], numbers["scale"], numbers["frames"]
        cells |= {
            "frames_registered": frames["registered"],
            "frames_selected": frames["selected"],
            "scale": scale["source"],
            "scale_uncertainty_percent": round(100 * scale["relative_uncertainty"], 2),
            "measured_percent": round(100 * surface["shares_of_torso"]["measured"], 1),
            "median_uncertainty_mm": round(surface["median_uncertainty_mm"], 2),
            "p95_uncertainty_mm": round(surface["p95_uncertainty_mm"], 2),
            "doubts": " ".join(numbers["doubts"]),
            "notes": len(numbers["warnings"]),
        }
    return {**cells, "message": outcome.message if outcome else ""}
