"""What people place by hand for a registration: landmarks on the volume, and a curve around the skin that decides."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.clinic.results import FEWEST_LANDMARKS
from BreastReconstructionLib.capabilities.clinic.stages import REGISTER
from BreastReconstructionLib.landmarks.curves import CLOSED_CURVE, read_points, write_curve
from BreastReconstructionLib.landmarks.files import write_landmarks_mrk_json
from BreastReconstructionLib.scene import clinic, nodes, patient


class ScanPlacing:
    """Two buttons, and what was placed by them in the scene.

    Args:
        module: the panel.
        rows: the form that gets the buttons.
    """

    def __init__(self, module, rows):
        self._module = module
        self._buttons = [
            self._button(
                "scanLandmarksButton",
                _("Place landmarks on the volume"),
                _("Only if the registration fails: click the six in their order on the volume's skin, then register again"),
                lambda case: patient.find_node(case, clinic.SCAN_LANDMARKS) or clinic.show_scan_landmarks(case, {}),
            ),
            self._button(
                "regionButton",
                _("Draw the skin that decides"),
                _("Click around skin that did not move; only that decides. Delete the curve to undo"),
                clinic.region_node,
            ),
        ]
        for button in self._buttons:
            rows.addRow(button)

    def refresh(self, ready: bool) -> None:
        """Enable the buttons."""
        for button in self._buttons:
            button.enabled = ready

    def show(self) -> None:
        """Show the landmarks on the volume: proposed, or as they were placed."""
        clinic.show_scan_landmarks(self._module.case_folder, self._known())

    def take(self) -> None:
        """Use what somebody placed or moved since it was shown, in the parameters of the registration."""
        case, parameters = self._module.case_folder, self._module.parameters
        nodes.stop_placing()
        placed = clinic.moved_scan_landmarks(case, self._known())
        if placed is not None and len(placed) >= FEWEST_LANDMARKS:
            write_landmarks_mrk_json(self._own("scan_landmarks"), placed)
            parameters.scan_landmarks = str(self._own("scan_landmarks"))
        elif placed is not None:
            parameters.scan_landmarks = ""
        own, drawn = self._own("region"), clinic.drawn_region(case)
        if drawn is not None:
            write_curve(own, drawn, CLOSED_CURVE)
            parameters.region_curve = str(own)
        elif parameters.region_curve == str(own):
            parameters.region_curve = ""

    def _known(self) -> dict:
        """Landmarks on the volume as they were shown."""
        found, given = self._module.result_of(REGISTER), self._module.parameters.scan_landmarks
        placed = read_points(Path(given)) if given and Path(given).is_file() else {}
        return {**({} if found is None else found.scan_landmarks), **placed}

    def _own(self, name: str) -> Path:
        return self._module.case_folder / f"{name}.mrk.json"

    def _button(self, name: str, words: str, tip: str, make_markups):
        button = qt.QPushButton(words)
        button.objectName, button.toolTip = name, tip
        button.clicked.connect(lambda: nodes.start_placing(make_markups(self._module.case_folder)))
        return button
