"""The Slicer module: panel, parameter node, jobs, and nodes in and out. The numerics are in BreastReconstructionLib."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if importlib.util.find_spec("BreastReconstructionLib") is None:  # from source, the library lies beside this module's folder
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from BreastReconstructionLib.pipeline import STAGES, stage_states
from BreastReconstructionPanels.cameras_section import CamerasSection
from BreastReconstructionPanels.choices import fill, select, show_path
from BreastReconstructionPanels.explore_section import EXPLORED, ExploreSection
from BreastReconstructionPanels.landmarks_section import LandmarksSection
from BreastReconstructionPanels.process import DONE, LibraryProcess
from BreastReconstructionPanels.result_section import ResultSection
from BreastReconstructionPanels.scale_section import ScaleSection
from BreastReconstructionPanels.setup_section import SetupSection
from BreastReconstructionPanels.surface_section import SurfaceSection
from BreastReconstructionPanels.video_section import VideoSection

from BreastReconstructionLib.cli import settings_from_arguments
from BreastReconstructionLib.core.case import read_case_file
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.scene import patient


class BreastReconstruction(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Breast Reconstruction")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Surface Models")]
        parent.dependencies = []
        parent.contributors = ["The BreastReconstruction developers"]
        parent.helpText = _(
            "Turns a phone video of a standing patient into a metric 3D surface of the torso. Nothing leaves this computer. "
            "For Slicer 5.10 and later; where its Python cannot hold the packages (on every Mac), Setup offers a private one."
        )
        parent.acknowledgementText = _("Method: Weiherer et al., arXiv 2510.13540. Synthetic bodies: MakeHuman (CC0).")
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data() -> None:
    """Offer the bundled phantom video in Slicer's Sample Data module; it comes from the installed files.

    A click there fills the panel; `SampleData.downloadSamples` from Python, which passes the custom downloader over, returns
    the paths of the video and of its landmarks.
    """
    import SampleData

    names = ("video.mp4", "picks.csv")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="BreastReconstruction",
        sampleName="BreastReconstructionPhantom",
        thumbnailFileName=str(Path(__file__).resolve().parent / "Resources" / "Icons" / "BreastReconstructionPhantom.png"),
        uris=[resource_path("SampleData", "phantom", name).as_uri() for name in names],
        fileNames=[f"BreastReconstructionPhantom-{name}" for name in names],
        nodeNames=[None, None],
        loadFiles=[False, False],
        customDownloader=lambda source: open_sample(),
    )


def open_sample():
    """Put the bundled sample, video, landmarks and marker, into the panel; returns the paths of video and landmarks."""
    slicer.util.selectModule("BreastReconstruction")
    widget = slicer.modules.BreastReconstructionWidget
    folder = resource_path("SampleData", "phantom")
    widget.open_sample(folder / "video.mp4", folder / "picks.csv", json.loads((folder / "truth.json").read_text())["marker"])
    return [str(folder / "video.mp4"), str(folder / "picks.csv")]


@parameterNodeWrapper
class BreastReconstructionParameterNode:
    """What the user has set; saved with the scene."""

    videoPath: str = ""
    casePath: str = ""
    quality: str = "normal"
    frameCount: Annotated[int, WithinRange(8, 1000)] = 30
    strategy: str = "sharp"
    mirrored: bool = False
    backend: str = "colmap"
    cameraPath: str = ""
    vggsfmPython: str = ""
    vggsfmFolder: str = ""
    landmarksFile: str = ""
    scaleKind: str = "distance"
    distanceFrom: str = "left-nipple"
    distanceTo: str = "right-nipple"
    distanceMm: Annotated[float, WithinRange(0, 1000)] = 0.0  # 0: nobody has measured it yet
    markerDictionary: str = "DICT_4X4_50"
    markerNumber: Annotated[int, WithinRange(-1, 9999)] = -1  # -1: any
    markerMm: Annotated[float, WithinRange(0, 500)] = 0.0  # 0: nobody has measured it yet
    trustScale: bool = False
    modelPath: str = ""
    regularisation: Annotated[float, WithinRange(0.05, 20)] = 1.0
    detailMm: Annotated[float, WithinRange(0.4, 10)] = 1.0
    colouring: str = "texture"
    removeUnseen: bool = False
    correctNipples: bool = False


# The parameters of one patient: kept with the case's folder in the scene, and set again when the patient is chosen.
PANEL_FILE = "panel.json"
PARAMETER_NAMES = tuple(BreastReconstructionParameterNode.__annotations__)


def one_spelling(path: str) -> str:
    """Return a folder's path as every part of the panel spells it: absolute, without a slash at its end; '' stays."""
    return str(Path(os.path.abspath(os.path.expanduser(path)))) if path else ""


class BreastReconstructionLogic(ScriptedLoadableModuleLogic):
    """From parameters to the library's command line and settings."""

    def getParameterNode(self):
        """Return the typed parameter node of the scene."""
        return BreastReconstructionParameterNode(super().getParameterNode())

    @staticmethod
    def arguments(parameters, landmarks, until: str) -> list:
        """Return the command line of a run up to a stage.

        Args:
            parameters: see BreastReconstructionParameterNode.
            landmarks: path of the landmark file, or None.
            until: a name of STAGES.
        """
        p = parameters
        source = {"import": p.cameraPath}.get(p.backend, p.backend)
        values = [until, p.videoPath, "-o", p.casePath, "--quality", p.quality, "--frames", p.frameCount]
        values += ["--strategy", p.strategy, "--cameras", source, "--regularisation", p.regularisation]
        values += ["--detail", round(p.detailMm, 2)]
        if p.backend == "vggsfm":
            values += ["--vggsfm-python", p.vggsfmPython, "--vggsfm-checkout", p.vggsfmFolder]
        if landmarks is not None:
            values += ["--landmarks", landmarks]
        number = f":{p.markerNumber}" if p.markerNumber >= 0 else ""
        distance = ["--distance", f"{p.distanceFrom}:{p.distanceTo}={p.distanceMm:g}"] if p.distanceMm > 0 else []
        marker = ["--marker", f"{p.markerDictionary}{number}:{p.markerMm:g}"] if p.markerMm > 0 else []
        scale = {"distance": distance, "marker": marker, "both": [*distance, *marker], "approximate": []}[p.scaleKind]
        values += scale or ["--approximate-scale"]  # the panel starts no surface while a measure is missing
        values += ["--trust-scale"] if p.trustScale else []
        values += ["--mirrored"] if p.mirrored else []
        values += ["--model", p.modelPath] if p.modelPath else []
        values += ["--remove-unseen"] if p.removeUnseen else []
        values += ["--correct-nipples"] if p.correctNipples else []
        return [str(value) for value in values]

    def states(self, parameters, landmarks) -> dict:
        """Return for each stage 'done', 'out of date' or 'not done'.

        Raises:
            BreastReconstructionError: an input cannot be read.
        """
        case = Path(parameters.casePath) if parameters.casePath else None
        if case is None or not parameters.videoPath or not read_case_file(case)["stages"]:
            return dict.fromkeys(STAGES, "not done")
        until = "report" if landmarks is not None else "dense"
        settings = settings_from_arguments(self.arguments(parameters, landmarks, until))
        try:
            return stage_states(case, settings)
        except OSError:  # the video or a model is gone; what was made from it is still there
            return {stage: "done" if stage in read_case_file(case)["stages"] else "not done" for stage in STAGES}


class BreastReconstructionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. Sections know their widgets; this class knows the case, the run, and the order of things."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._gui_tag = self._node_observed = None
        self._states = dict.fromkeys(STAGES, "not done")
        self._refreshing = self._refresh_waits = False

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/BreastReconstruction.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = BreastReconstructionLogic()
        self.parameters = self.logic.getParameterNode()
        self._run = LibraryProcess(self._on_event, self._on_end)
        self.setup_section = SetupSection(self)
        self.video = VideoSection(self)
        self.cameras = CamerasSection(self)
        self.landmarks = LandmarksSection(self)
        self.scale = ScaleSection(self)
        self.surface = SurfaceSection(self)
        self.result = ResultSection(self)
        self.explore = ExploreSection(self)
        self.ui.casePathEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.casePathEdit.connect("currentPathChanged(QString)", self._on_case_path)
        self.ui.patientComboBox.connect("currentIndexChanged(int)", self._on_patient)
        self.ui.removePatientButton.clicked.connect(self._remove_patient)
        self.ui.runAllButton.clicked.connect(self.run_to_the_end)
        self.ui.cancelButton.clicked.connect(self._run.cancel)
        self.ui.detailsButton.connect("toggled(bool)", self.ui.detailsText.setVisible)
        scene = slicer.mrmlScene
        self.addObserver(scene, slicer.vtkMRMLScene.StartCloseEvent, self._on_scene_closes)
        self.addObserver(scene, slicer.vtkMRMLScene.EndCloseEvent, self._on_scene_changed)
        self.addObserver(scene, slicer.vtkMRMLScene.EndImportEvent, self._on_scene_changed)
        self.addObserver(scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._on_node_removed)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        self._connect_parameters()
        self.setup_section.refresh()
        self.refresh()
        self.open_case()

    def enter(self) -> None:
        """The user opens the module."""
        self.setup_section.ask_for_device()
        self.refresh()

    def exit(self) -> None:
        """The user opens another module; a run goes on."""
        if self.ui.placeButton.checked:
            self.ui.placeButton.checked = False

    def cleanup(self) -> None:
        """The module or the application goes away: no process outlives it."""
        for section in (self.setup_section, self.surface, self.explore):
            section.stop()
        self._run.stop()
        self.removeObservers()

    # What sections ask ---------------------------------------------------------------------------------------------

    @property
    def case(self):
        """Folder of the case, or None."""
        return Path(self.parameters.casePath) if self.parameters.casePath else None

    def stage_folder(self, stage: str):
        """Return the folder of a stage's files, or None if the case has none."""
        if self.case is None:
            return None
        try:
            finished = stage in read_case_file(self.case)["stages"]
        except BreastReconstructionError:
            return None
        folder = self.case / stage
        return folder if finished and folder.is_dir() else None

    def say(self, sentence: str) -> None:
        """Show one sentence to the user."""
        self.ui.statusLabel.text = sentence

    def state_words(self, stage: str, state: str) -> str:
        """Return a section's state in words."""
        if self._run.running and self._running_stage == stage:
            return _("Running, {percent} %.").format(percent=self._stage_percent)
        if state == "not done":
            return _("Ready.") if self.parameters.videoPath else _("Needs a video.")
        return _("Done.") if state == "done" else _("Out of date: a setting changed.")

    def refresh(self) -> None:
        """Bring every section up to date with the parameters and the case folder."""
        if self._refreshing:
            return
        self._refreshing = True
        try:
            try:
                landmarks = None if self.landmarks.missing() else self.landmarks.file()
                self._states = self.logic.states(self.parameters, landmarks)
            except BreastReconstructionError as error:
                self.say(str(error))
            show_path(self.ui.casePathEdit, self.parameters.casePath)
            for section in (self.video, self.cameras, self.landmarks, self.scale, self.surface, self.result):
                section.refresh(self._states)
            self._refresh_patients()
            running = self._run.running
            for button in (self.ui.framesButton, self.ui.camerasButton, self.ui.reconstructButton, self.ui.runAllButton):
                button.enabled = not running
            self.ui.cancelButton.enabled = running
        finally:
            self._refreshing = False

    def choose_video(self, path: str) -> None:
        """Use another video; its case folder is named after it unless the user names one."""
        self.parameters.videoPath = path
        source = Path(path)
        if path and source.exists():
            self.parameters.landmarksFile = ""
            self.choose_case(str(Path.home() / "BreastReconstruction" / source.stem))
            self.parameters.videoPath = path  # a case of that name may know another
        self.refresh()

    def choose_case(self, path: str) -> None:
        """Use another case folder, with the settings of its last run, and show what it holds."""
        path = one_spelling(path)
        self.parameters.casePath = path
        kept = Path(path) / PANEL_FILE
        if path and kept.is_file():
            self._set_parameters(kept.read_text())
        self.open_case()

    def _set_parameters(self, text: str) -> None:
        """Set what `parameters_as_text` wrote, but for the case folder, which may have been moved."""
        for name, value in json.loads(text).items():
            if name in PARAMETER_NAMES and name != "casePath":
                setattr(self.parameters, name, value)

    def open_sample(self, video: Path, picks: Path, marker: str) -> None:
        """Fill the panel for the bundled sample."""
        self.choose_video(str(video))
        dictionary, side_mm = marker.split(":")
        self.parameters.scaleKind, self.parameters.markerDictionary = "marker", dictionary
        self.parameters.markerMm = float(side_mm)
        self.landmarks.load(picks)
        self.say(_("The sample is a synthetic patient; press Run all."))

    def open_case(self) -> None:
        """Show what the case folder holds."""
        steps = (self.video.show_frames, self.cameras.show_cameras, self.cameras.show_points)
        for step in (*steps, self.landmarks.open_case, self.result.show, self.refresh):
            qt.QTimer.singleShot(0, step)  # one a turn of the event loop, so that the panel stays usable

    # Runs ----------------------------------------------------------------------------------------------------------

    def run_to_the_end(self) -> None:
        """Do the rest of the way: up to the surface, or up to the points while landmarks are missing."""
        missing = self.landmarks.missing()
        if missing and self._states["dense"] == "done":
            self.say(_("Place all six landmarks first; missing: {names}.").format(names=", ".join(missing)))
            return
        if not missing and (needed := self.scale.missing()):
            self.say(needed)
            return
        self.run("dense" if missing else "report")

    def run(self, until: str) -> None:
        """Start the stages up to one in the background; finished ones that nothing changed are skipped."""
        parameters = self.parameters
        if self._run.running:
            return
        if not parameters.videoPath:
            self.say(_("Choose a video first."))
            return
        if not Path(parameters.videoPath).exists():
            self.say(_("{path} does not exist; choose the video again.").format(path=parameters.videoPath))
            return
        if not parameters.casePath:
            self.say(_("Choose a case folder first."))
            return
        try:
            self.case.mkdir(parents=True, exist_ok=True)
            (self.case / PANEL_FILE).write_text(self.parameters_as_text())
        except OSError:
            self.say(_("The case folder cannot be written; choose a folder of your own."))
            return
        self._running_stage, self._stage_percent = "", 0
        self._started, self._first_overall = time.monotonic(), None
        self._finished_stages = set()
        self.ui.progressBar.value = 0
        self.ui.detailsText.clear()
        self.say(_("Running …"))
        needed = STAGES.index(until) >= STAGES.index("landmarks")
        # Complete ones also decide which frames are chosen.
        landmarks = self.landmarks.file() if needed or not self.landmarks.missing() else None
        self._run.start(self.logic.arguments(parameters, landmarks, until))
        self.refresh()

    def _on_event(self, event) -> None:
        if event["event"] != "progress":
            return
        overall = event["overall"]
        self._running_stage, self._stage_percent = event["stage"], round(100 * event["fraction"])
        self.ui.progressBar.value = round(100 * overall)
        if self._first_overall is None:
            self._first_overall = overall
        self.say(f"{event['stage']}: {event['words']}. {self._remaining(overall)}")
        if event["finished"]:
            self._finished_stages.add(event["stage"])
            self._show_stage(event["stage"], skipped=event["words"].startswith("unchanged"))

    def _remaining(self, overall: float) -> str:
        done, elapsed = overall - self._first_overall, time.monotonic() - self._started
        if done < 0.05 or elapsed < 3:
            return ""
        seconds = elapsed * (1 - overall) / done
        return _("About {minutes:.0f} min left.").format(minutes=seconds / 60) if seconds > 90 else _("Less than 2 min left.")

    def _show_stage(self, stage: str, skipped: bool) -> None:
        if not skipped:
            show = {
                "frames": [self.video.show_frames, self.landmarks.open_case],
                "cameras": [self.cameras.show_cameras],
                "dense": [self.cameras.show_points],
                "fit": [self.video.show_frames],  # whether the patient moved
            }.get(stage, [])
            for function in show:
                qt.QTimer.singleShot(0, function)
        qt.QTimer.singleShot(0, self.refresh)

    def _on_end(self, outcome) -> None:
        self._running_stage = ""
        self.ui.detailsText.setPlainText(outcome.details)
        if outcome.kind == DONE:
            self.ui.progressBar.value = 100
            doubts = outcome.result.get("doubts", [])
            self.say(_("Done, but DOUBTFUL: {doubts}").format(doubts=" ".join(doubts)) if doubts else _("Done."))
            if "report" in self._finished_stages:
                self.result.show()
            elif self.landmarks.missing():
                self.say(_("Done. Now place the six landmarks."))
        else:
            self.say(outcome.sentence)
        self.refresh()

    # Scene ---------------------------------------------------------------------------------------------------------

    def parameters_as_text(self) -> str:
        """Return all parameters as one line of JSON."""
        return json.dumps({name: getattr(self.parameters, name) for name in PARAMETER_NAMES})

    def _connect_parameters(self) -> None:
        if self._node_observed is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._node_observed, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
        self.parameters = self.logic.getParameterNode()
        self._gui_tag = self.parameters.connectGui(self.ui)
        self._node_observed = self.parameters.parameterNode
        self.addObserver(self._node_observed, vtk.vtkCommand.ModifiedEvent, self._on_parameters)

    def _on_parameters(self, caller, event) -> None:
        # One refresh for many changes in a row.
        if not self._refresh_waits:
            self._refresh_waits = True
            qt.QTimer.singleShot(0, self._refresh_once)

    def _refresh_once(self) -> None:
        self._refresh_waits = False
        self.refresh()

    def _on_scene_closes(self, caller, event) -> None:
        self._run.cancel()

    def _on_scene_changed(self, caller, event) -> None:
        self._connect_parameters()
        self.open_case()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller, event, node) -> None:
        if node is not None and node.GetAttribute(patient.CASE) == self.parameters.casePath:
            self._on_parameters(None, None)

    def _on_case_path(self, path: str) -> None:
        if one_spelling(path) != self.parameters.casePath:
            self.choose_case(path)

    def _refresh_patients(self) -> None:
        cases = [case for case in patient.cases_in_scene() if case != EXPLORED]
        fill(self.ui.patientComboBox, [("", _("(new)"))] + [(str(case), case.name) for case in cases])
        select(self.ui.patientComboBox, self.parameters.casePath if self.case in cases else "")
        self.ui.removePatientButton.enabled = self.case in cases

    def _on_patient(self, index: int) -> None:
        path = self.ui.patientComboBox.itemData(index)
        if not path or path == self.parameters.casePath:
            return
        kept = patient.read_provenance(Path(path), "parameters")
        if kept:
            self._set_parameters(kept)
        self.choose_case(path)
        patient.show_only(Path(path))

    def _remove_patient(self) -> None:
        if self.case is not None:
            patient.remove_case(self.case)
            self.say(_("Removed from the scene; the case folder is kept."))
            self.refresh()


class BreastReconstructionTest(ScriptedLoadableModuleTest):
    """A short test that also runs inside Slicer (Reload and Test)."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run each test."""
        self.setUp()
        self.test_command_line_of_the_parameters()
        self.setUp()
        self.test_surface_node_has_scalars()

    def test_command_line_of_the_parameters(self):
        """The parameters become a command line that the library understands."""
        logic = BreastReconstructionLogic()
        parameters = logic.getParameterNode()
        parameters.videoPath, parameters.casePath, parameters.distanceMm = "video.mp4", "case", 210.0
        settings = settings_from_arguments(logic.arguments(parameters, "landmarks.csv", "report"))
        self.assertEqual(settings.frame_count, 30)
        self.assertEqual(settings.scales[0].mm, 210.0)
        self.delayDisplay("parameters become settings")

    def test_surface_node_has_scalars(self):
        """A mesh becomes a model node with its scalars, in a folder of the subject hierarchy."""
        import numpy as np

        from BreastReconstructionLib.mesh.mesh import TriangleMesh
        from BreastReconstructionLib.scene import nodes

        points = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]])
        faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        scalars = {"residual_mm": np.arange(4.0), "views": np.ones(4)}
        case = Path("test case")
        node = nodes.show_surface(case, TriangleMesh(points, faces, points / 100, None, scalars), "residual_mm")
        self.assertEqual(node.GetDisplayNode().GetActiveScalarName(), "residual_mm")
        self.assertEqual(patient.cases_in_scene(), [case])
        self.assertTrue(np.allclose(nodes.mesh_of(node).vertices, points))
        self.delayDisplay("surface node has scalars")
