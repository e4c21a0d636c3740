"""One run of the library's command line in a Python of its own: a child process that speaks JSON lines."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import qt
import slicer
from slicer.i18n import tr as _

import BreastReconstructionLib
from BreastReconstructionLib.core.private_python import private_interpreter, without_foreign_python

# A run that was asked to stop and has not is ended by force after this time.
PATIENCE_MS = 1500
DONE, CANCELLED, FAILED = "done", "cancelled", "failed"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        kind: DONE, CANCELLED or FAILED.
        sentence: for the user.
        result: values of the run's result event.
        details: what it printed on standard error.
    """

    kind: str
    sentence: str
    result: dict = field(default_factory=dict)
    details: str = ""


class Worker(Protocol):
    """What the panel starts, hears and ends; LibraryProcess, or what a test puts in its place."""

    @property
    def running(self) -> bool:
        """True from the start until the end was told."""

    def start(self, arguments: list) -> None:
        """Run the command line with these arguments."""

    def send(self, line: str) -> None:
        """Write one line to its input."""

    def cancel(self) -> None:
        """Ask it to stop."""

    def stop(self) -> None:
        """End it at once, without telling anybody."""


class LibraryProcess:
    """Starts, hears and ends one run at a time.

    PythonSlicer is a launcher that starts the interpreter as its child: the process that Qt knows is not the one that works. The
    worker's first event tells its own process number, and that process leads the group which is ended.

    Args:
        on_event: called with each event of the run, a dict.
        on_end: called once a run, with its Outcome.
        interpreter: returns the program of Python, or None; the private Python or PythonSlicer unless another is given.
    """

    def __init__(self, on_event, on_end, interpreter=None):
        self._on_event, self._on_end = on_event, on_end
        self._interpreter = interpreter or (lambda: worker_python())
        self._process = None

    @property
    def running(self) -> bool:
        """True from the start until `on_end` was called."""
        return self._process is not None

    @property
    def worker(self):
        """Process number of the interpreter that works, None until it has told it."""
        return self._worker if self.running else None

    @property
    def launcher(self):
        """Process number of what was started, which may be the worker's parent; None while nothing runs."""
        return int(self._process.processId()) if self.running else None

    def start(self, arguments: list) -> None:
        """Run the command line with these arguments; failures, too, are told by `on_end`."""
        self._folder = Path(tempfile.mkdtemp(prefix="BreastReconstruction"))
        self._cancel_file = self._folder / "cancel"
        self._buffer, self._errors, self._error, self._result, self._cancelled = b"", b"", "", {}, False
        self._worker = None
        self._process = qt.QProcess()
        self._process.connect("readyReadStandardOutput()", self._on_output)
        self._process.connect("readyReadStandardError()", self._on_error_output)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._on_finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._on_error)
        # `python -m` finds the library in the working folder, from source and installed.
        self._process.setWorkingDirectory(str(Path(BreastReconstructionLib.__file__).resolve().parent.parent))
        options = ["--json-progress", "--follow-parent", "--cancel-file", str(self._cancel_file)]
        program = self._interpreter()
        if program is None:
            self._end(Outcome(FAILED, _("PythonSlicer was not found beside Slicer; install Slicer again.")))
            return
        if program == private_interpreter():
            self._process.setProcessEnvironment(_environment_outside_slicer())
        self._process.start(program, ["-m", "BreastReconstructionLib", *map(str, arguments), *options])

    def send(self, line: str) -> None:
        """Write one line to the run's standard input."""
        if self.running:
            self._process.write((line + "\n").encode())

    def cancel(self) -> None:
        """Ask the run to stop at its next safe point; end it by force if it does not."""
        if not self.running or self._cancelled:
            return
        self._cancelled = True
        self._cancel_file.touch()
        process = self._process
        qt.QTimer.singleShot(PATIENCE_MS, lambda: self._kill_if_running(process))

    def stop(self) -> None:
        """End the run at once, without telling anybody: the panel or the application goes away."""
        if self.running:
            process, self._process = self._process, None
            self._kill(process)
            process.waitForFinished(1000)
            _let_go(process)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _kill_if_running(self, process) -> None:
        if self._process is process:
            self._kill(process)

    def _kill(self, process) -> None:
        """End the worker with its children, and so the launcher; a worker not yet heard of ends when its input closes."""
        if os.name == "nt":
            number = int(process.processId())
            if number > 0:
                subprocess.run(["taskkill", "/T", "/F", "/PID", str(number)], capture_output=True, check=False)
            return
        if self._worker is not None:
            try:
                os.killpg(self._worker, signal.SIGKILL)
            except ProcessLookupError:
                return  # it has just ended by itself
        else:
            process.kill()

    def _on_output(self) -> None:
        if self._process is None:
            return
        *lines, self._buffer = (self._buffer + self._process.readAllStandardOutput().data()).split(b"\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            self._errors += line + b"\n"  # a library printed something
            return
        if kind == "started":
            self._worker = int(event["process"])
            return
        if kind == "error":
            self._error = event["message"]
        elif kind == "result":
            self._result = event
        self._on_event(event)

    def _on_error_output(self) -> None:
        if self._process is not None:
            self._errors += self._process.readAllStandardError().data()

    def _on_error(self, error) -> None:
        # Only a failed start has no `finished` after it.
        if self._process is not None and error == qt.QProcess.FailedToStart:
            self._end(Outcome(FAILED, _("PythonSlicer could not be started; install Slicer again.")))

    def _on_finished(self, code, status) -> None:
        if self._process is None:
            return
        self._on_output()
        self._on_error_output()
        details = self._errors.decode("utf-8", "replace")
        if self._cancelled:
            outcome = Outcome(CANCELLED, _("Cancelled. What is finished is kept; press the button again to go on."), {}, details)
        elif code == 0 and status == qt.QProcess.NormalExit:
            outcome = Outcome(DONE, "", self._result, details)
        elif self._error:
            outcome = Outcome(FAILED, self._error, {}, details)
        elif self._worker is not None or status == qt.QProcess.CrashExit:
            # A launcher ends in an ordinary way even if its child was killed: only the missing last word tells.
            outcome = Outcome(
                FAILED,
                _("The computation was ended from outside. What is finished is kept; press the button again to go on."),
                {},
                details,
            )
        else:
            outcome = Outcome(FAILED, _("The computation failed; see Details."), {}, details)
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        process, self._process = self._process, None
        _let_go(process)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._on_end(outcome)


def _let_go(process) -> None:
    """Drop the last reference to a process in a later turn of the event loop: in its own signal that would crash Slicer."""
    qt.QTimer.singleShot(0, lambda: process.close())


def worker_python():
    """Return the path of the interpreter that works: the private one if the user installed it, else Slicer's, or None."""
    return private_interpreter() or python_slicer()


def python_slicer():
    """Return the path of Slicer's Python interpreter, or None."""
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    beside = Path(slicer.app.slicerHome) / "bin" / name
    return str(beside) if beside.exists() else shutil.which("PythonSlicer")


def _environment_outside_slicer():
    """The environment that Slicer was started in, as a QProcessEnvironment: another Python must not find Slicer's."""
    startup = getattr(slicer.util, "startupEnvironment", None)
    try:
        values = dict(startup()) if startup is not None else dict(os.environ)
    except AttributeError:  # outside Slicer's application
        values = dict(os.environ)
    environment = qt.QProcessEnvironment()
    for name, value in without_foreign_python(values).items():
        environment.insert(name, value)
    return environment
