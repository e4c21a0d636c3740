"""Fixtures: the command line as a subprocess, the bundled sample, a small case, and the demo's case."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from BreastReconstructionLib.capabilities.torso import TORSO
from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.phantom.torso import make_torso, sample_parameters
from Testing.cases import STAGES, forget_from, made_once, shared_folder, small_arguments, small_pictures

# Tests take these from here.
__all__ = ["STAGES", "forget_from", "small_arguments"]
ROOT = Path(__file__).resolve().parent.parent
# The stages beside the way from video to report, by their commands.
BESIDE = {stage.name: stage.command_words[0] for stage in TORSO.stages if stage.name not in STAGES}


def run_cli(*arguments, timeout=1200, **options):
    """Run the command line as a user would; returns the finished process with text output."""
    command = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


def assert_one_sentence(finished, code, *words):
    """A refusal: the exit code, one line on standard error, no traceback, and what it must say."""
    lines = finished.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert finished.returncode == code, finished.stderr
    assert len(errors) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in errors[0], errors[0]


def pytest_collection_modifyitems(items):
    """What takes long comes first, so that the processes that share the tests end together."""
    items.sort(key=lambda item: item.get_closest_marker("fast") is not None)


@pytest.fixture(scope="session")
def sample():
    return resource_path("SampleData", "phantom")


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Where this session's processes keep what several tests need."""
    return shared_folder(tmp_path_factory)


def _run_demo(folder, *options):
    finished = run_cli("demo", *options, "-o", folder / "case")
    assert finished.returncode == 0, finished.stderr
    (folder / "stdout.txt").write_text(finished.stdout)


@pytest.fixture(scope="session")
def demo_case(shared, sample):
    """The demo, run once through the command line; what it printed is in stdout.txt beside it."""
    return made_once(shared, "demo", ["normal", sample], _run_demo) / "case"


@pytest.fixture(scope="session")
def draft_case(shared, sample):
    """The demo's draft."""
    return made_once(shared, "draft", ["draft", sample], lambda folder: _run_demo(folder, "--quality", "draft")) / "case"


@pytest.fixture(scope="session")
def small_input(shared, sample):
    """Sixteen frontal pictures of half size from the sample video, with picks: a case of seconds instead of minutes."""
    folder = made_once(shared, "small", [sample], lambda folder: small_pictures(sample, folder))
    return folder / "pictures", folder / "picks.csv"


@pytest.fixture(scope="session")
def small_case(shared, small_input):
    """A finished small case."""

    def make(folder):
        finished = run_cli(*small_arguments(small_input), "-o", folder / "case")
        assert finished.returncode == 0, finished.stderr

    return made_once(shared, "small_case", list(small_input), make) / "case"


@pytest.fixture
def case(small_case, tmp_path):
    """A copy of the small case that a test may change."""
    return Path(shutil.copytree(small_case, tmp_path / "case"))


def start_until(arguments, stage, **options):
    """Start the command line and return it as soon as `stage` reports that it runs."""
    command = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments), "--json-progress"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") == stage and event["outcome"] == "running":
            return process
    raise AssertionError(f"{stage} never ran: {process.stderr.read()}")


@pytest.fixture(scope="session")
def parameters():
    """A body of middle size, to deform."""
    drawn = sample_parameters(np.random.default_rng(3))
    for side in (drawn.left, drawn.right):
        side.update(cupsize=0.55, weight=0.5, firmness=0.5)
    return drawn


@pytest.fixture(scope="session")
def plain(parameters):
    """The torso of that body."""
    return make_torso(parameters)


# The panel in the host -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_errors_in_slots():
    """Where the host is used, no slot of the module may raise."""
    yield
    if (strict := sys.modules.get("Testing.SlicerHost.strict")) is not None:
        errors, strict.slot_errors[:] = list(strict.slot_errors), []
        assert errors == []


@pytest.fixture(scope="module")
def panel():
    """The panel in the host, opened."""
    pytest.importorskip("PySide6")
    pytest.importorskip("slicer")
    from Testing.workflow import open_panel

    panel = open_panel()
    panel.enter()
    yield panel
    panel.cleanup()


@pytest.fixture
def own_case(small_case, tmp_path):
    """A finished small case of this test's own: other tests compare the shared one with what they asked for."""
    return Path(shutil.copytree(small_case, tmp_path / "small case"))


@pytest.fixture
def fresh(panel, small_input, tmp_path):
    """An empty scene with the small picture folder chosen, and 16 evenly spaced frames."""
    import slicer

    from Testing.workflow import choose, wait

    slicer.mrmlScene.Clear(0)
    wait(lambda: not panel.ui.casePathEdit.currentPath, 5)
    pictures, _ = small_input
    panel.ui.videoPathEdit.currentPath = str(pictures)
    panel.ui.casePathEdit.currentPath = str(tmp_path / "case")
    panel.ui.option_frame_count.value = 16
    choose(panel.ui.option_strategy, "uniform")
    choose(panel.ui.scaleComboBox, "approximate")
    panel.ui.option_detail_mm.value = 6.0
    panel.ui.option_feature_pixels.value = 480
    panel.ui.option_patch_rounds.value = 1
    panel.ui.option_refine_cell_mm.value = 5.0
    return panel
