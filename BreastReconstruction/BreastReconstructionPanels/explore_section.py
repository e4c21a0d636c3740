"""Section Explore model: the mean shape of the torso, or of an organ, and its principal directions, live."""

import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.core.resources import LUNG_MODEL, bundled_model_path
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.mesh.mesh import TriangleMesh
from BreastReconstructionLib.scene import nodes

from .choices import fill
from .process import FAILED

DIRECTIONS = 6
# The shapes belong to no patient.
EXPLORED = Path("Shape model")


class ExploreSection:
    """Sliders that talk to a process; only the newest position is asked for while it computes."""

    def __init__(self, module, make_process):
        self._module, self._ui = module, module.ui
        self.process = make_process(self._on_event, self._on_end)
        self._folder = None
        self._waiting = self._asked = self._changed = None
        self.refresh_seconds = []  # from a slider's step to the shape in the scene
        self.which = qt.QComboBox()
        self.which.toolTip = _("The torso's model, or the one that is chosen in Shape models")
        fill(self.which, [("model", _("Torso")), ("organ_model", _("Organ"))])
        self.which.connect("currentIndexChanged(int)", lambda index: self._stop_showing())
        self._ui.exploreSection.layout().insertRow(1, _("Of"), self.which)
        self._ui.exploreButton.connect("toggled(bool)", self._on_toggled)
        self._ui.meanShapeButton.clicked.connect(self._to_mean)
        self._sliders = [getattr(self._ui, f"direction{i + 1}Slider") for i in range(DIRECTIONS)]
        for slider in self._sliders:
            slider.connect("valueChanged(double)", self._on_slider)
            slider.enabled = False
        self._ui.exploreState.text = _("Ready.")

    @property
    def busy(self) -> bool:
        """True while a shape is awaited."""
        return self._asked is not None

    def stop(self) -> None:
        """End the process."""
        self.process.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _on_toggled(self, checked: bool) -> None:
        for slider in self._sliders:
            slider.enabled = checked
        if not checked:
            self.stop()
            self._ui.exploreState.text = _("Ready.")
            return
        self._folder = tempfile.mkdtemp(prefix="BreastReconstruction")
        self._waiting, self._asked = [slider.value for slider in self._sliders], None
        which = self.which.itemData(self.which.currentIndex)
        model = getattr(self._module.parameters, which) or (bundled_model_path(LUNG_MODEL) if which == "organ_model" else "")
        self._ui.exploreState.text = _("Starting …")
        self.process.start(["model", "explore", *([model] if model else []), "-o", self._folder])

    def _stop_showing(self) -> None:
        self._ui.exploreButton.checked = False

    def _to_mean(self) -> None:
        for slider in self._sliders:
            slider.value = 0.0

    def _on_slider(self) -> None:
        self._waiting = [slider.value for slider in self._sliders]
        self._changed = time.perf_counter()
        if self._asked is None:
            self._ask()

    def _ask(self) -> None:
        if self.process.running and self._waiting is not None:
            self._asked, self._waiting = (self._waiting, self._changed), None
            self.process.send(json.dumps(self._asked[0]))

    def _on_event(self, event) -> None:
        if "file" in event:
            with np.load(event["file"]) as file:
                mesh = TriangleMesh(file["vertices"], file["faces"], Frame.PATIENT, file["normals"])
            nodes.show_surface(EXPLORED, mesh, "texture", "explored")
            if self._asked is not None and self._asked[1] is not None:
                self.refresh_seconds.append(time.perf_counter() - self._asked[1])
            self._ui.exploreState.text = _("Shape in the 3D view; sliders in standard deviations.")
            self._asked = None
        if "file" in event or "directions" in event:
            self._ask()

    def _on_end(self, outcome) -> None:
        if outcome.kind == FAILED:
            self._module.say(outcome.sentence)
        self._ui.exploreState.text = outcome.sentence or _("Ready.")
        if self._ui.exploreButton.checked:
            self._ui.exploreButton.checked = False
