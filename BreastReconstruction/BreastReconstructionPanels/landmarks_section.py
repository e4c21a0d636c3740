"""Section Landmarks: the six points, placed on frames in the Red slice view or read from a file."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.torso.stages import DENSE, FRAMES, PROPOSAL
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.landmarks.files import (
    PICKS_FILE,
    LandmarkInput,
    read_landmarks,
    read_video_picks,
)
from BreastReconstructionLib.landmarks.locate import most_frontal
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.landmarks.proposal import PROPOSED_FILE
from BreastReconstructionLib.scene import nodes, views

from .choices import fill, select
from .landmark_files import LandmarkFiles
from .landmark_picks import LandmarkPicks

PLACED_EVENTS = ("PointPositionDefinedEvent", "PointEndInteractionEvent", "PointPositionUndefinedEvent")


class LandmarksSection:
    """Places landmarks; what was placed is kept in the case folder's landmarks.csv after every click."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self.picks = LandmarkPicks()
        self._frame = ""
        self._filling = False
        ui = self._ui
        ui.landmarkTable.setColumnCount(3)
        ui.landmarkTable.setHorizontalHeaderLabels([_("Landmark"), _("Frames"), _("Error")])
        ui.landmarkTable.setRowCount(len(LANDMARK_NAMES))
        ui.placeButton.connect("toggled(bool)", self._on_place)
        ui.redoButton.clicked.connect(self._take_back)
        ui.clearFrameButton.clicked.connect(self._clear_frame)
        ui.previousFrameButton.clicked.connect(lambda: self._browse(-1))
        ui.nextFrameButton.clicked.connect(lambda: self._browse(1))
        ui.frontalFrameButton.clicked.connect(self._show_frontal)
        ui.frameComboBox.connect("currentIndexChanged(int)", lambda index: self.show_frame(ui.frameComboBox.itemData(index)))
        ui.proposeButton.clicked.connect(lambda: module.run(PROPOSAL))
        ui.confirmButton.clicked.connect(self._confirm)
        self.files = LandmarkFiles(module, self)

    # What the module asks ------------------------------------------------------------------------------------------

    def file(self):
        """Return the landmark file that a run shall use, or None if nothing is placed or loaded."""
        given = self._module.parameters.landmarks
        if given:
            return Path(given)
        own = self._own_file()
        return own if own is not None and own.exists() else None

    def _own_file(self):
        """Where the picks of the case are kept."""
        return None if self._module.case_folder is None else self._module.case_folder / PICKS_FILE

    def use_own_file(self) -> None:
        """Go on with the picks in the case, if it is those that the settings name: they can be changed by clicks."""
        if self._module.parameters.landmarks == str(self._own_file()):
            self._module.parameters.landmarks = ""

    def missing(self) -> list:
        """Return the landmarks that are placed in no frame and given by no file."""
        try:
            given = self.given()
        except BreastReconstructionError:
            return list(LANDMARK_NAMES)
        placed = set(given.points) | {pick.landmark for pick in given.picks}
        return [name for name in LANDMARK_NAMES if name not in placed]

    def wanted(self) -> str:
        """Return what the user has to do before a fit, in words; '' if nothing."""
        if missing := self.missing():
            return _("Needs landmarks: {names}.").format(names=", ".join(missing))
        if unconfirmed := self.picks.unconfirmed():
            words = _("Look at the proposed landmarks on the frames, drag what is wrong, then press 'They are right': {names}.")
            return words.format(names=", ".join(unconfirmed))
        return ""

    def stage_done(self, name: str) -> None:
        """Take over what was proposed, for landmarks that nobody has placed, and show the frontal frame with it."""
        if name != PROPOSAL.name or (proposal := self._module.result_of(PROPOSAL)) is None:
            return
        self._module.parameters.landmarks = ""
        rows = read_video_picks(self._module.case_folder / PROPOSAL.name / PROPOSED_FILE)
        self.picks.propose(self.picks.flipped(LandmarkInput(rows, {})))
        self._write()
        self.show_frame(proposal.shown_in[0])

    def next_words(self, finished: set) -> str:
        """Return what to say after stages are done, '' if nothing."""
        if PROPOSAL.name in finished and (proposal := self._module.result_of(PROPOSAL)) is not None:
            unknown = _(" Not found: {names}; place them.").format(names=", ".join(proposal.unknown)) if proposal.unknown else ""
            unsure = _(" Look closely at: {names}.").format(names=", ".join(proposal.unsure)) if proposal.unsure else ""
            return self.wanted() + unknown + unsure
        if DENSE.name in finished and self.missing():
            return _("Done. Now place the six landmarks, or let them be proposed.")
        return ""

    def _confirm(self) -> None:
        """The user says that what is proposed is right."""
        self.picks.confirm()
        self._changed()

    def open_case(self) -> None:
        """Read the frames and the picks of the case; the Red slice view shows nothing until a frame is asked for."""
        self.picks = LandmarkPicks(self._module.result_of(FRAMES))
        fill(self._ui.frameComboBox, [(name, name[:-4]) for name in self.picks.frames])
        if self._frame not in self.picks.frames:
            self._frame = ""
        try:
            self.picks.add(self.given())
        except BreastReconstructionError as error:
            self._module.say(str(error))
        if self._frame:
            self.show_frame(self._frame)

    def refresh(self, states) -> None:
        """Show the table, the next landmark, and what is wrong with those placed."""
        ui, wanted = self._ui, self.wanted()
        located, errors, sentence = self.located()
        for row, name in enumerate(LANDMARK_NAMES):
            error = errors.get(name)
            ui.landmarkTable.setItem(row, 0, qt.QTableWidgetItem(name))
            ui.landmarkTable.setItem(row, 1, qt.QTableWidgetItem(str(self.picks.count_of(name))))
            ui.landmarkTable.setItem(row, 2, qt.QTableWidgetItem("" if error is None else f"{error:.1f} px"))
        if sentence:
            ui.landmarksState.text = sentence
        elif wanted:
            ui.landmarksState.text = wanted
        elif located is not None:
            ui.landmarksState.text = _("Done: six landmarks.")
        else:
            ui.landmarksState.text = _("Six landmarks; checked once the points are found.")
        ui.confirmButton.enabled = bool(self.picks.unconfirmed())
        ui.proposeButton.enabled = not self._module.running
        following = self.picks.next_on(self._frame)
        words = _("Next: {name} (left and right are the patient's)") if following else _("All six are placed on this frame.")
        ui.nextLandmarkLabel.text = words.format(name=following)
        guide = self._module.resourcePath(f"Icons/Guides/{following or LANDMARK_NAMES[0]}.png")
        ui.guidePicture.setPixmap(qt.QPixmap(guide))
        ui.landmarksText.text = self._module.parameters.landmarks and _("Landmarks of the file {name}.").format(
            name=Path(self._module.parameters.landmarks).name
        )

    # Frames in the slice view --------------------------------------------------------------------------------------

    def show_frame(self, name: str) -> None:
        """Show a frame in the Red slice view, with its picks and where other frames' picks should be."""
        frames = self._module.result_of(FRAMES)
        if frames is None or name not in self.picks.frames:
            return
        self._frame = name
        select(self._ui.frameComboBox, name)
        volume = nodes.show_frame(self._module.case_folder, frames.folder / name, self._module.result.outline(name))
        red = views.red_slice_widget()
        if red is None:
            self._module.say(_("The view layout has no Red slice view; choose another layout to see the frames."))
            return
        composite = red.sliceLogic().GetSliceCompositeNode()
        first = composite.GetBackgroundVolumeID() != volume.GetID()
        composite.SetBackgroundVolumeID(volume.GetID())
        if first:
            red.mrmlSliceNode().SetOrientation("Axial")
            red.sliceLogic().FitSliceToBackground()
            red.sliceLogic().SetSliceOffset(0.0)
        self._show_picks()

    def show_again(self) -> None:
        """Show the current frame anew, or the most frontal one, with or without the surface's outline."""
        if self._frame:
            self.show_frame(self._frame)
        else:
            self._show_frontal()

    def _show_picks(self) -> None:
        if not self._frame:
            return
        self._filling = True
        try:
            unsure = bool(self.picks.unconfirmed())
            node = nodes.show_picks(self._module.case_folder, self.picks.on(self._frame), unsure)
            located, _errors, _sentence = self.located()
            predicted = self.picks.predicted(self._frame, self._module.cameras.by_name(), located)
            nodes.show_predicted(self._module.case_folder, predicted)
        finally:
            self._filling = False
        interaction = nodes.interaction_node()
        mode_changed = interaction.InteractionModeChangedEvent
        if not self._module.hasObserver(interaction, mode_changed, self._on_interaction_mode):
            self._module.addObserver(interaction, mode_changed, self._on_interaction_mode)
        for event in PLACED_EVENTS:
            number = getattr(slicer.vtkMRMLMarkupsNode, event)
            if not self._module.hasObserver(node, number, self._on_placed):
                self._module.addObserver(node, number, self._on_placed)
        if self._ui.placeButton.checked:
            nodes.start_placing(node)

    def _browse(self, step: int) -> None:
        names = list(self.picks.frames)
        if not names:
            self._module.say(_("Choose frames first."))
        elif not self._frame:
            self._show_frontal()
        else:
            self.show_frame(names[(names.index(self._frame) + step) % len(names)])
            self.refresh(None)

    def _show_frontal(self) -> None:
        cameras = self._module.cameras.by_name()
        names = list(self.picks.frames)
        if not names:
            self._module.say(_("Choose frames first."))
            return
        self.show_frame(most_frontal(cameras) if cameras else names[len(names) // 2])
        self.refresh(None)

    # Placing -------------------------------------------------------------------------------------------------------

    def _on_place(self, checked: bool) -> None:
        if not checked:
            nodes.stop_placing()
            return
        if not self.picks.frames:
            self._ui.placeButton.checked = False
            self._module.say(_("Choose frames first; the landmarks are placed on them."))
            return
        self._module.parameters.landmarks = ""
        self.show_again()

    def _on_interaction_mode(self, interaction, event) -> None:
        """Esc and a right click end placing without asking this panel."""
        if self._ui.placeButton.checked and not self._filling and interaction.GetCurrentInteractionMode() != interaction.Place:
            self._ui.placeButton.checked = False

    def _on_placed(self, node, event) -> None:
        if self._filling or not self._frame:
            return
        self.picks.place(self._frame, nodes.read_picks(node))
        self._write()
        if not self.picks.next_on(self._frame) and self._ui.placeButton.checked:
            self._ui.placeButton.checked = False
        self._module.refresh()

    def _take_back(self) -> None:
        if self.picks.take_back():
            self._changed()

    def _clear_frame(self) -> None:
        if self._frame:
            self.picks.clear(self._frame)
            self._changed()

    def _changed(self) -> None:
        self._write()
        self._show_picks()
        self._module.refresh()

    def _write(self) -> None:
        try:
            self.picks.write(self._own_file())
        except OSError:
            self._module.say(_("The landmarks cannot be written to the case folder; choose a folder of your own."))

    # In space ------------------------------------------------------------------------------------------------------

    def given(self) -> LandmarkInput:
        """What is placed or loaded, in pixels of the chosen frames."""
        path = self.file()
        if path is None:
            return LandmarkInput((), {})
        given = LandmarkInput(read_video_picks(path), {}) if path.name == PICKS_FILE else read_landmarks(path)
        if given.names_pictures:
            given = given.of_pictures(self._module.video.picture_files())
        return self.picks.flipped(given)

    def located(self):
        """See LandmarkPicks.located."""
        try:
            given = None if self.missing() else self.given()
        except BreastReconstructionError as error:
            return None, {}, str(error)
        return self.picks.located(given, self._module.cameras.by_name(), self._module.cameras.points_world)
