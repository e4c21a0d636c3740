"""The Slicer module: panel, parameter node, jobs, and nodes in and out. The numerics are in BreastReconstructionLib."""

import importlib.util
import sys
from pathlib import Path

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

if importlib.util.find_spec("BreastReconstructionLib") is None:  # from source, the library lies beside this module's folder
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from BreastReconstructionPanels.cameras_section import CamerasSection
from BreastReconstructionPanels.choices import show_path
from BreastReconstructionPanels.clinic_section import ClinicSection
from BreastReconstructionPanels.explore_section import ExploreSection
from BreastReconstructionPanels.landmarks_section import LandmarksSection
from BreastReconstructionPanels.logic import NOTHING_DONE, BreastReconstructionLogic, one_spelling
from BreastReconstructionPanels.neural_section import NeuralSection
from BreastReconstructionPanels.organ_section import OrganSection
from BreastReconstructionPanels.parameters import set_parameters
from BreastReconstructionPanels.patients_section import PatientsSection
from BreastReconstructionPanels.process import LibraryProcess
from BreastReconstructionPanels.result_section import ResultSection
from BreastReconstructionPanels.runs import Run
from BreastReconstructionPanels.sample_data import register_sample_data
from BreastReconstructionPanels.scale_section import ScaleSection
from BreastReconstructionPanels.self_test import BreastReconstructionTest  # noqa: F401  (Slicer looks for it here)
from BreastReconstructionPanels.setup_section import SetupSection
from BreastReconstructionPanels.stage_section import StageSection
from BreastReconstructionPanels.surface_section import SurfaceSection
from BreastReconstructionPanels.video_section import VideoSection
from BreastReconstructionPanels.xray_section import XraySection

from BreastReconstructionLib.capabilities import STAGES, capability_of
from BreastReconstructionLib.capabilities.torso.migration import settings_of_case
from BreastReconstructionLib.capabilities.torso.stages import CAMERAS, DENSE, FIT, FRAMES, MARKERS, REPORT
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.scene import patient

# Stages of these sections are shown by them; any other gets a section of its own.
SECTIONS = ("video", "cameras", "landmarks", "scale", "surface", "clinic", "neural", "organ", "xray")


class BreastReconstruction(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Breast Reconstruction")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Surface Models")]
        parent.contributors = ["The BreastReconstruction developers"]
        parent.helpText = _(
            "Turns a phone video of a standing patient into a metric 3D surface of the torso. Nothing leaves this computer. "
            "For Slicer 5.10 and later; where its Python cannot hold the packages (on every Mac), Setup offers a private one."
        )
        parent.acknowledgementText = _("Method: Weiherer et al., arXiv 2510.13540. Synthetic bodies: MakeHuman (CC0).")
        slicer.app.connect("startupCompleted()", register_sample_data)


class BreastReconstructionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. Sections know their widgets; this class knows the case, the run, and the order of things.

    `make_process(on_event, on_end, interpreter=None)` makes the processes that work; tests put another in its place before setup.
    """

    make_process = LibraryProcess

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._gui_tag, self._node_observed, self._states = None, None, dict(NOTHING_DONE)
        self._refreshing = self._refresh_waits = False

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/BreastReconstruction.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = BreastReconstructionLogic()
        self.parameters = self.logic.getParameterNode()
        make_process = type(self).make_process
        self.current_run = Run(self, make_process)
        self.setup_section = SetupSection(self, make_process)
        self.video, self.cameras, self.landmarks = VideoSection(self), CamerasSection(self), LandmarksSection(self)
        self.scale, self.surface = ScaleSection(self), SurfaceSection(self, make_process)
        self.result, self.patients = ResultSection(self), PatientsSection(self)
        self.clinic, self.neural = ClinicSection(self, self.layout), NeuralSection(self, self.layout)
        self.organ, self.xray = OrganSection(self, self.layout, make_process), XraySection(self, self.layout)
        self.explore, self.rooms = ExploreSection(self, make_process), (self.clinic, self.neural, self.organ, self.xray)
        self.further_sections = [StageSection(self, s, self.layout) for s in STAGES if s.section not in SECTIONS]
        first = (self.video, self.cameras, self.landmarks, self.scale, self.surface, self.result)
        self.sections = (*first, *self.rooms, *self.further_sections)
        self.ui.casePathEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.casePathEdit.connect("currentPathChanged(QString)", self._on_case_path)
        self.ui.runAllButton.clicked.connect(self.run_to_the_end)
        self.ui.cancelButton.clicked.connect(self.current_run.process.cancel)
        self.ui.detailsButton.connect("toggled(bool)", self.ui.detailsText.setVisible)
        scene, events = slicer.mrmlScene, slicer.vtkMRMLScene
        self.addObserver(scene, events.StartCloseEvent, self._on_scene_closes)
        for event in (events.EndCloseEvent, events.EndImportEvent):
            self.addObserver(scene, event, self._on_scene_changed)
        self.addObserver(scene, events.NodeRemovedEvent, self._on_node_removed)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        self._connect_parameters()
        for step in (self.setup_section.refresh, self.refresh, self.open_case):
            step()

    def enter(self) -> None:
        """The user opens the module."""
        self.setup_section.ask_for_device()
        self.refresh()

    def exit(self) -> None:
        """The user opens another module; a run goes on."""
        self.ui.placeButton.checked = False

    def cleanup(self) -> None:
        """The module or the application goes away: no process outlives it."""
        for section in (self.setup_section, self.surface, self.explore, self.organ):
            section.stop()
        self.current_run.process.stop()
        self.removeObservers()

    # What sections ask ---------------------------------------------------------------------------------------------

    @property
    def case_folder(self):
        """Folder of the case, or None."""
        return Path(self.parameters.case_folder) if self.parameters.case_folder else None

    @property
    def running(self) -> bool:
        """True while a run goes on."""
        return self.current_run.running

    def has(self, stage) -> bool:
        """True if the case has the files of a stage, up to date or not."""
        return self._read(stage, lambda case: True) is not None

    def result_of(self, stage):
        """Return the result of a stage, up to date or not, or None if the case has none."""
        return self._read(stage, lambda case: case.result(stage))

    def _read(self, stage, read):
        try:
            case = Case(self.case_folder) if self.case_folder is not None and self.case_folder.is_dir() else None
            return read(case) if case is not None and case.has(stage) else None
        except BreastReconstructionError as error:
            self.say(str(error))
            return None

    def say(self, sentence: str) -> None:
        """Show one sentence to the user."""
        self.ui.statusLabel.text = sentence

    def state_words(self, stage, state) -> str:
        """Return a section's state in words."""
        if self.running and self.current_run.stage == stage.name:
            return _("Running, {percent} %.").format(percent=self.current_run.percent)
        if state is StageState.NOT_DONE:
            return _("Ready.") if self.parameters.video else _("Needs a video.")
        return _("Done.") if state is StageState.DONE else _("Out of date: a setting changed.")

    def refresh(self) -> None:
        """Bring every section up to date with the parameters and the case folder."""
        if self._refreshing:
            return
        self._refreshing = True
        try:
            try:
                self._states = self.logic.states(self.parameters, self.complete_landmarks())
            except BreastReconstructionError as error:
                self.say(str(error))
            show_path(self.ui.casePathEdit, self.parameters.case_folder)
            for section in self.sections:
                section.refresh(self._states)
            self.patients.refresh()
            for name in ("framesButton", "checkVideoButton", "camerasButton", "reconstructButton", "runAllButton"):
                getattr(self.ui, name).enabled = not self.running
            self.ui.cancelButton.enabled = self.running
        finally:
            self._refreshing = False

    def choose_video(self, path: str) -> None:
        """Use another video; its case folder is named after it unless the user names one."""
        self.parameters.video = path
        source = Path(path)
        if path and source.exists():
            self.parameters.landmarks = ""
            self.choose_case(str(Path.home() / "BreastReconstruction" / source.stem))
            self.parameters.video = path  # a case of that name may know another
        self.refresh()

    def choose_case(self, path: str) -> None:
        """Use another case folder, with its own settings, and show what it holds."""
        path = one_spelling(path)
        self.parameters.case_folder = path
        try:
            if path and (settings := settings_of_case(Path(path), STAGES)) is not None:
                set_parameters(self.parameters, settings)
                self.landmarks.use_own_file()
        except BreastReconstructionError as error:
            self.say(str(error))
        self.open_case()

    def open_case(self) -> None:
        """Show what the case folder holds."""
        steps = (self.video.show_frames, self.cameras.show_cameras, self.cameras.show_points, self.landmarks.open_case)
        for step in (*steps, self.result.show, *(room.show for room in self.rooms), self.refresh):
            qt.QTimer.singleShot(0, step)  # one a turn of the event loop, so that the panel stays usable

    # Runs ----------------------------------------------------------------------------------------------------------

    def run_to_the_end(self) -> None:
        """Do the rest of the way: up to the surface, or up to the points while landmarks are missing."""
        wanted = self.landmarks.wanted()
        if wanted and self._states[DENSE.name] is StageState.DONE:
            self.say(wanted)
            return
        if not wanted and (needed := self.scale.missing()):
            self.say(needed)
            return
        self.run(DENSE if wanted else REPORT)

    def run(self, stage) -> None:
        """Start what a stage needs and the stage itself in the background; what nothing changed is skipped."""
        if not self.running:  # markers as soon as there are frames: a mirrored one is told before the long run
            self.current_run.start((MARKERS, stage) if stage in capability_of(MARKERS).stages else (stage,))
            self.refresh()

    def complete_landmarks(self):
        """Return the landmark file if it gives all six, else None: complete ones also decide which frames are chosen."""
        return None if self.landmarks.wanted() else self.landmarks.file()

    def stage_done(self, name: str, skipped: bool) -> None:
        """Show the files of a stage that has just been done."""
        show = {
            FRAMES.name: [self.video.show_frames, self.landmarks.open_case],
            MARKERS.name: [self.video.show_frames],
            FIT.name: [self.video.show_frames],  # whether the patient moved
            CAMERAS.name: [self.cameras.show_cameras],
            DENSE.name: [self.cameras.show_points],
        }
        functions = show.get(name, [lambda s=s: s.stage_done(name) for s in (self.landmarks, self.video, *self.rooms)])
        for function in (*([] if skipped else functions), self.refresh):
            qt.QTimer.singleShot(0, function)

    def run_ended(self, finished: set) -> None:
        """Show the result, or say what comes next."""
        if REPORT.name in finished:
            self.result.show()
        elif words := self.video.next_words(finished) or self.landmarks.next_words(finished):
            self.say(words)
        self.refresh()

    # Scene ---------------------------------------------------------------------------------------------------------

    def _connect_parameters(self) -> None:
        if self._node_observed is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._node_observed, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
        self.parameters = self.logic.getParameterNode()
        self._gui_tag = self.parameters.connectGui(self.ui)
        self._node_observed = self.parameters.parameterNode
        self.addObserver(self._node_observed, vtk.vtkCommand.ModifiedEvent, self._on_parameters)

    def _on_parameters(self, caller, event) -> None:
        if not self._refresh_waits:  # one refresh for many changes in a row
            self._refresh_waits = True
            qt.QTimer.singleShot(0, self._refresh_once)

    def _refresh_once(self) -> None:
        self._refresh_waits = False
        self.refresh()

    def _on_scene_closes(self, caller, event) -> None:
        self.current_run.process.cancel()

    def _on_scene_changed(self, caller, event) -> None:
        self._connect_parameters()
        self.open_case()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller, event, node) -> None:
        if node is not None and node.GetAttribute(patient.CASE) == self.parameters.case_folder:
            self._on_parameters(None, None)

    def _on_case_path(self, path: str) -> None:
        if one_spelling(path) != self.parameters.case_folder:
            self.choose_case(path)
