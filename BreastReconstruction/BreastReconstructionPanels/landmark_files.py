"""Landmarks from files and to files."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.landmarks.files import read_landmarks, write_landmarks_mrk_json, write_landmarks_pp
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES


class LandmarkFiles:
    """Reads and writes the landmarks of a section."""

    def __init__(self, module, section):
        self._module, self._section = module, section
        module.ui.loadLandmarksButton.clicked.connect(self._load)
        module.ui.saveLandmarksButton.clicked.connect(self._save)

    def _load(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self._module.parent, _("Load landmarks"), "", _("Landmarks (*.csv *.mrk.json *.json *.pp *.ply *_landmarks.txt)")
        )
        if path:
            self.load(Path(path))

    def load(self, path: Path) -> None:
        """Use a landmark file; picks in it can be changed afterwards."""
        try:
            read_landmarks(path)
        except BreastReconstructionError as error:
            self._module.say(str(error))
            return
        self._module.parameters.landmarks = str(path)
        self._section.open_case()
        self._module.refresh()

    def _save(self) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self._module.parent, _("Save landmarks"), "landmarks.csv", _("Landmarks (*.csv *.mrk.json *.pp)")
        )
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write picks (.csv), or the points in world (.mrk.json, .pp)."""
        missing = self._section.missing()
        if missing:
            self._module.say(_("Place all six landmarks first; missing: {names}.").format(names=", ".join(missing)))
            return
        located, _errors, sentence = self._section.located()
        try:
            if path.name.endswith(".csv"):
                self._section.picks.write_given(path, self._section.given())
            elif located is None:
                self._module.say(sentence or _("Points in space need the cameras; find them first."))
            else:
                points = dict(zip(LANDMARK_NAMES, located))
                (write_landmarks_pp if path.suffix == ".pp" else write_landmarks_mrk_json)(path, points)
        except OSError:
            self._module.say(_("{name} cannot be written there; choose another folder.").format(name=path.name))
