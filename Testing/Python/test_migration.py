"""A case of version 0.3 (format 1) opens, and its cameras stay up to date."""

import json
import shutil

import pytest

from BreastReconstructionLib.capabilities import STAGES
from BreastReconstructionLib.capabilities.torso import TORSO
from BreastReconstructionLib.capabilities.torso.migration import settings_of_case
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import CaseError
from BreastReconstructionLib.core.run import StageState, states
from BreastReconstructionLib.core.settings import read_settings
from Testing.cases import SMALLER
from Testing.conftest import run_cli

# What version 0.3.0 wrote: its settings of each stage, and its panel.
FORMAT_1 = {
    "frames": {"count": 16, "strategy": "uniform"},
    "cameras": {"backend": "colmap", "imported": [], "feature_pixels": 960},
    "dense": {"flow_pixels": 1920},
    "landmarks": {},
    "align": {},
    "fit": {"regularisation": 1.0, "first_order": False},
    "surface": {"scales": [], "detail_mm": 4.0, "remove_unseen": False},
    "report": {"truth": None},
}
PANEL = {
    "videoPath": "", "casePath": "/old/place", "quality": "normal", "frameCount": 16, "strategy": "uniform", "mirrored": False,
    "backend": "colmap", "cameraPath": "", "vggsfmPython": "", "vggsfmFolder": "", "landmarksFile": "",
    "scaleKind": "approximate",
    "distanceFrom": "left-nipple", "distanceTo": "right-nipple", "distanceMm": 0.0, "markerDictionary": "DICT_4X4_50",
    "markerNumber": -1, "markerMm": 0.0, "trustScale": False, "modelPath": "", "regularisation": 1.0, "detailMm": 4.0,
    "colouring": "texture", "removeUnseen": False, "correctNipples": False,
}  # fmt: skip


@pytest.fixture
def old_case(small_case, small_input, tmp_path):
    """The small case as version 0.3 left it."""
    case = tmp_path / "case"
    shutil.copytree(small_case, case)
    document = json.loads((case / "case.json").read_text())
    stages = {}
    for name, settings in FORMAT_1.items():
        record = document["stages"][name]
        kept = {key: record["values"][key] for key in ("video", "required", "landmarks", "model") if key in record["values"]}
        record = {key: value for key, value in record.items() if key != "values"}
        stages[name] = {**record, "key": "of another time", "settings": {**settings, **kept}, "version": "0.3.0"}
    (case / "case.json").write_text(json.dumps({"format": 1, "stages": stages}))
    (case / "settings.json").unlink()
    for name in ("markers", "scale"):
        shutil.rmtree(case / name)
    panel = PANEL | {"videoPath": str(small_input[0]), "landmarksFile": str(small_input[1])}
    (case / "panel.json").write_text(json.dumps(panel))
    return case


def test_what_was_finished_stays_up_to_date(old_case):
    settings = settings_of_case(old_case, STAGES)
    found = states(Case(old_case), TORSO, settings)
    done = {name for name, state in found.items() if state is StageState.DONE}
    assert done == {"frames", "cameras"}
    assert found["dense"] is found["landmarks"] is StageState.OUT_OF_DATE, "points are measured in smaller pictures now"
    assert found["align"] is found["fit"] is StageState.OUT_OF_DATE, "points that are no skin have no vote any more"
    assert found["markers"] is found["scale"] is StageState.NOT_DONE
    assert found["surface"] is found["report"] is StageState.OUT_OF_DATE
    assert json.loads((old_case / "case.json").read_text())["format"] == 1, "looking changes nothing"


def test_it_is_inspected_and_run_to_the_end_again(old_case, small_input):
    finished = run_cli("inspect", old_case)
    assert finished.returncode == 0, finished.stderr
    assert "scale: approximate" in finished.stdout
    pictures, picks = small_input
    options = ["--frames", 16, "--strategy", "uniform", "--detail", 4, *SMALLER[2:], "--approximate-scale"]
    options.append("--json-progress")
    finished = run_cli("reconstruct", pictures, "--landmarks", picks, *options, "-o", old_case)
    assert finished.returncode == 0, finished.stderr
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    skipped = [event["stage"] for event in events if event.get("outcome") == "skipped"]
    assert skipped == ["frames", "cameras"]
    assert json.loads((old_case / "case.json").read_text())["format"] == 2
    assert read_settings(old_case, STAGES).of(STAGES[0]).frame_count == 16


def test_other_options_of_it_are_out_of_date(old_case):
    settings = settings_of_case(old_case, STAGES).with_values(STAGES, {"flow_pixels": 1000})
    found = states(Case(old_case), TORSO, settings)
    assert (found["cameras"], found["dense"]) == (StageState.DONE, StageState.OUT_OF_DATE)


def test_a_panel_of_it_that_is_damaged_is_one_sentence(old_case):
    (old_case / "panel.json").write_text("[1")
    with pytest.raises(CaseError, match=r"panel\.json is damaged"):
        settings_of_case(old_case, STAGES)


def test_the_panel_shows_it(panel, old_case):
    from Testing.workflow import wait

    panel.ui.casePathEdit.currentPath = str(old_case)
    wait(lambda: panel.result.node() is not None, 30)
    assert panel.ui.option_frame_count.value == 16
    assert panel.ui.videoState.text == "Done."
    wait(lambda: panel.ui.resultState.text.startswith("Out of date"), 10)
    assert panel.ui.landmarksState.text == "Done: six landmarks."
