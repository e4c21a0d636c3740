"""The worker behind the panel: nothing goes on computing after cancel, stop, explore off, or a killed parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

from Testing.conftest import ROOT
from Testing.SlicerHost import strict
from Testing.workflow import start_and_wait_for, wait, wait_for_run

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def workers(word):
    """Process numbers of interpreters that run the library's command line with that word, launchers left out."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            arguments = (path / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            state = (path / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        of_library = "BreastReconstructionLib" in arguments and "python" in Path(arguments[0]).name.lower()
        if of_library and "Slicer" not in Path(arguments[0]).name and state != "Z":
            found += [int(path.name)] if any(word in argument for argument in arguments) else []
    return found


def test_the_worker_is_the_launchers_child_and_ends_with_cancel(fresh):
    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    assert workers(str(panel.case_folder)) == [panel.current_run.process.worker]
    assert panel.current_run.process.worker != panel.current_run.process.launcher
    panel.ui.cancelButton.click()
    assert wait_for_run(panel, 30).startswith("Cancelled")
    assert workers(str(panel.case_folder)) == []  # it is said when it is true


def test_a_worker_that_hangs_is_ended_by_force(fresh):
    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    os.kill(panel.current_run.process.worker, signal.SIGSTOP)
    panel.ui.cancelButton.click()
    assert wait_for_run(panel, 30).startswith("Cancelled")
    assert workers(str(panel.case_folder)) == []
    panel.ui.framesButton.click()
    assert wait_for_run(panel).startswith("Done")


def test_no_process_outlives_the_panel(fresh):
    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    panel.current_run.process.stop()
    wait(lambda: workers(str(panel.case_folder)) == [], 5)
    panel.refresh()


def test_the_worker_ends_with_its_launcher(fresh):
    panel = fresh
    start_and_wait_for(panel, panel.ui.camerasButton, "cameras")
    os.kill(panel.current_run.process.launcher, signal.SIGKILL)
    wait_for_run(panel, 30)
    wait(lambda: workers(str(panel.case_folder)) == [], 20)


def test_explore_off_ends_the_sliders_process(panel):
    panel.ui.exploreButton.checked = True
    wait(lambda: panel.explore.process.worker is not None, 60)
    assert len(workers("explore")) == 1
    panel.ui.exploreButton.checked = False
    wait(lambda: workers("explore") == [], 5)


def follower(*arguments):
    """A worker as the panel starts it, once it has told its number."""
    command = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments), "--json-progress", "--follow-parent"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert '"started"' in process.stdout.readline()
    return process


def test_explore_hears_a_termination_request_and_the_end_of_its_input(tmp_path):
    process = follower("model", "explore", "-o", tmp_path)
    process.stdout.readline()  # ready
    process.terminate()
    assert process.wait(20) == 130
    process = follower("model", "explore", "-o", tmp_path)
    process.stdin.close()
    assert process.wait(60) == 0


def test_a_run_ends_when_slicer_is_gone(small_input, tmp_path):
    process = follower("dense", small_input[0], "-o", tmp_path / "case", "--frames", 16)
    time.sleep(2)
    process.stdin.close()
    assert process.wait(60) == 130
    assert not (tmp_path / "case" / "case.lock").exists()


def test_a_failed_start_drops_no_process_inside_its_signal(fresh, monkeypatch):
    """The host makes an error of that; genuine PythonQt crashes."""
    from BreastReconstructionPanels import process

    monkeypatch.setattr(process, "python_slicer", lambda: "/no/such/PythonSlicer")
    fresh.ui.framesButton.click()
    assert "could not be started" in wait_for_run(fresh, 30)
    assert strict.slot_errors == []


def test_the_private_python_does_the_work_without_slicers_variables(fresh, monkeypatch, tmp_path):
    """An interpreter that records what it is given stands in for the private one."""
    from BreastReconstructionPanels import process

    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nenv > "{tmp_path}/env.txt"\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(process, "private_interpreter", lambda: str(script))
    monkeypatch.setenv("PYTHONHOME", "/slicer/lib/Python")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    fresh.ui.framesButton.click()
    assert wait_for_run(fresh).startswith("Done")
    given = (tmp_path / "env.txt").read_text()
    assert "PYTHONHOME" not in given
    assert "LD_LIBRARY_PATH" not in given
