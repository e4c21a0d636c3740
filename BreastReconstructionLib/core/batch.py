"""Many cases by one list: a table of settings in, a program of its own for each row, and what became of each.

A row is run by `breast-reconstruction run CASE`, in a process of its own: one that fails or is killed takes no other with it.
Who runs the rows is any executor of `concurrent.futures`: threads here, or the workers of a Dask cluster.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .arguments import argument_type
from .case import Case
from .errors import BreastReconstructionError, DependencyError, OptionError
from .files import write_json
from .options import Option
from .progress import CancellationToken
from .run import Job, StageState
from .settings import Settings, Stages, every_option, quality_values, write_settings
from .stage import Capability, Stage

# What a row leaves in its case.
OUTCOME_FILE = "batch.json"
CASE, QUALITY = "case", "quality"
_TRUE, _FALSE = ("yes", "true", "1", "on"), ("no", "false", "0", "off")
_LIST_SEPARATOR = "|"
# Its appearance in a case asks the row's program to stop, on whatever machine it runs.
_CANCEL_FILE = "batch.cancel"
POLL_S = 0.5


@dataclass(frozen=True)
class Row:
    """One line of a list.

    Attributes:
        number: from 1, as a Slurm array counts.
        case: folder.
        settings: what it asks for.
    """

    number: int
    case: Path
    settings: Settings


@dataclass(frozen=True)
class RowOutcome:
    """What became of a row.

    Attributes:
        code: exit code of its program; 0 if it is done.
        message: what went wrong; '' if nothing did.
        seconds: it took.
    """

    code: int
    message: str
    seconds: float

    def save(self, case: Path) -> None:
        """Keep it with the case."""
        write_json(case / OUTCOME_FILE, asdict(self))

    @classmethod
    def load(cls, case: Path) -> RowOutcome | None:
        """Read what became of a case's row; None if that is not known."""
        try:
            return cls(**json.loads((case / OUTCOME_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


# The list ---------------------------------------------------------------------------------------------------------------


def read_list(path: Path, stages: Stages) -> list[Row]:
    """Read a list: CSV with a column `case` (folder), and columns named like options (`video`, `landmarks`, `marker`, …).

    Paths are relative to the list's folder. An empty cell means the default. Several markers or distances of a row are
    separated by `|`. Commas or semicolons separate the cells, as spreadsheets of different countries write them.

    Raises:
        OptionError: it cannot be read, a column or a value is none, or two rows share a case.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"The list {path.name} cannot be read; give a CSV file in UTF-8.") from error
    lines = text.splitlines()
    if not lines:
        raise OptionError(f"The list {path.name} is empty; its first line names the columns.")
    table = csv.DictReader(lines, delimiter=";" if lines[0].count(";") > lines[0].count(",") else ",", skipinitialspace=True)
    columns = [(name or "").strip() for name in table.fieldnames or ()]
    table.fieldnames = columns
    stages = tuple(stages)
    options = {_column(option): option for option in every_option(stages)}
    _check_columns(path, columns, options)
    rows = []
    for number, cells in enumerate((cells for cells in table if any(cells.values())), start=1):
        try:
            rows.append(_row(number, cells, path.parent, stages, options))
        except BreastReconstructionError as error:
            raise OptionError(f"Row {number} of the list {path.name}: {error}") from error
    if not rows:
        raise OptionError(f"The list {path.name} has no rows.")
    folders: dict[Path, int] = {}
    for row in rows:
        other = folders.setdefault(row.case.absolute(), row.number)
        if other != row.number:
            raise OptionError(f"Rows {other} and {row.number} of the list {path.name} share a case; give each its own folder.")
    return rows


def _column(option: Option) -> str:
    """The name of an option's column: that of the command line, without dashes before it."""
    return option.flag.lstrip("-").lower()


def _check_columns(path: Path, columns: Sequence[str], options: Mapping[str, Option]) -> None:
    if CASE not in columns:
        raise OptionError(f"The list {path.name} has no column '{CASE}', which names the folder of each row's case.")
    for name in columns:
        if columns.count(name) > 1:
            raise OptionError(f"The list {path.name} has the column '{name}' twice.")
        if name not in (CASE, QUALITY) and name not in options:
            known = ", ".join((CASE, QUALITY, *options))
            raise OptionError(f"The list {path.name} has the unknown column '{name}'; there are {known}.")


def _row(number: int, cells: Mapping[Any, Any], folder: Path, stages: Stages, options: Mapping[str, Option]) -> Row:
    if None in cells or any(value is None for value in cells.values()):
        raise OptionError("it has more or fewer cells than the first line.")
    texts = {name: value.strip() for name, value in cells.items() if value.strip()}
    if CASE not in texts:
        raise OptionError(f"the cell '{CASE}' is empty.")
    values = quality_values(stages, texts.get(QUALITY, "normal"))
    for name, text in texts.items():
        if name in options:
            values[options[name].name] = _value(options[name], text, folder)
    return Row(number, folder / texts[CASE], Settings().with_values(stages, values))


def _value(option: Option, text: str, folder: Path) -> Any:
    if option.kind is Path:
        return folder / text
    if option.kind is tuple:
        return tuple(part.strip() for part in text.split(_LIST_SEPARATOR))
    if option.kind is bool:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise OptionError(f"{_column(option)} must be yes or no, not '{text}'.")
        return text.lower() in _TRUE
    if option.name == "cameras" and (folder / text).exists():
        return str(folder / text)
    try:
        return argument_type(option)(text)
    except argparse.ArgumentTypeError as error:
        raise OptionError(f"{_column(option)} {error}.") from error


# Running ----------------------------------------------------------------------------------------------------------------


@contextmanager
def executor(at_once: int, dask: str | None) -> Iterator[Executor]:
    """Give who runs the rows: threads that each wait for a program here, or the workers of a Dask cluster.

    Raises:
        DependencyError: Dask is not installed.
        OptionError: no scheduler answers.
    """
    if dask is None:
        with ThreadPoolExecutor(at_once) as threads:
            yield threads
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise DependencyError("The package distributed (Dask) is missing; install it on every machine of the cluster.") from error
    try:
        client = Client(dask, timeout="10s")
    except (OSError, ValueError) as error:
        raise OptionError(f"No Dask scheduler answers at {dask}; start one, or leave --dask out.") from error
    with client:
        yield client.get_executor(pure=False)


def is_done(row: Row, capability: Capability, goal: Stage[Any, Any]) -> bool:
    """Whether a row's case is up to date.

    Raises:
        BreastReconstructionError: an input cannot be read.
    """
    return row.case.is_dir() and Job(Case(row.case), capability, row.settings).state(goal) is StageState.DONE


def run_rows(
    rows: Sequence[Row],
    capability: Capability,
    goal: Stage[Any, Any],
    workers: Executor,
    threads: int,
    token: CancellationToken,
) -> Iterator[tuple[Row, RowOutcome]]:
    """Run the rows that are not up to date, and yield each with what became of it, as it ends.

    Args:
        rows: of the list.
        capability: whose stages.
        goal: the stage that is wanted.
        workers: who runs them.
        threads: that each may use; 0 for as many as the environment of who runs it says, as Dask sets it.
        token: asks to stop; rows that run are stopped at a safe point, others are not begun.

    Raises:
        Cancelled: somebody asked to stop, after all that ran has ended.
    """
    running: dict[Future, Row] = {}
    for row in rows:
        try:
            if is_done(row, capability, goal):
                yield row, RowOutcome.load(row.case) or RowOutcome(0, "", 0.0)
                continue
            write_row(row, capability.stages)
        except BreastReconstructionError as error:
            yield row, RowOutcome(error.exit_code, str(error), 0.0)
            continue
        running[workers.submit(run_row, str(row.case.absolute()), goal.name, threads)] = row
    while running:
        ended, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in ended:
            row = running.pop(future)
            (row.case / _CANCEL_FILE).unlink(missing_ok=True)
            if not future.cancelled():
                outcome = RowOutcome(**future.result())
                outcome.save(row.case)
                yield row, outcome
        if token.cancelled:
            for future, row in running.items():
                if not future.cancel():
                    (row.case / _CANCEL_FILE).touch()
    token.raise_if_cancelled()


def write_row(row: Row, stages: Stages) -> None:
    """Prepare a row's case for its program.

    Raises:
        CaseError: the folder cannot be written, or another job works on it.
    """
    case = Case(row.case, create=True)
    with case.lock():
        write_settings(row.case, stages, row.settings)
        (row.case / _CANCEL_FILE).unlink(missing_ok=True)


def run_row(case: str, goal: str, threads: int) -> dict[str, Any]:
    """Run the program of one row; a function of texts and numbers, which any worker can call.

    Args:
        case: folder, which holds its settings.
        goal: name of the stage that is wanted.
        threads: the program may use; 0 for as many as the environment says.

    Returns:
        the values of a RowOutcome.
    """
    cancel_file = Path(case) / _CANCEL_FILE
    words = [sys.executable, "-m", "BreastReconstructionLib", "run", case, "--until", goal]
    words += ["--json-progress", "--follow-parent", "--cancel-file", str(cancel_file)]
    start, message = time.monotonic(), ""
    # Standard input stays open as long as this process lives: the program ends with it.
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})},
    ) as program:
        for line in program.stdout or ():
            event = _event(line)
            if event.get("event") == "error":
                message = str(event["message"])
        code = program.wait()
    if code < 0:
        message = f"Its program was killed (signal {-code}); was there too little memory?"
    elif code > 0 and not message:
        message = "Its program ended without a word; run the row alone to see why."
    return {"code": code, "message": message, "seconds": round(time.monotonic() - start, 1)}


def _event(line: str) -> dict[str, Any]:
    """One line of the program; anything else that a library prints is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
