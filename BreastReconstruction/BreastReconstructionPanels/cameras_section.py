"""Section Cameras: who finds them, and the result in the 3D view."""

import ctk
from BreastReconstructionLib.choices import bind, fill, select, show_path
from slicer.i18n import tr as _

from BreastReconstructionLib.scene import nodes
from BreastReconstructionLib.sfm.dense import DenseCloud
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction, world_upright

# More points than this do not make the view clearer.
SHOWN_POINTS = 60_000


class CamerasSection:
    """Finds the cameras and the dense points."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self.reconstruction = None
        self.points_world = None  # (N, 3) dense points, once they are there
        ui = self._ui
        fill(
            ui.backendComboBox,
            [
                ("colmap", "COLMAP"),
                ("vggsfm", _("VGGSfM, installed by you")),
                ("import", _("imported COLMAP model or VGGSfM predictions")),
            ],
        )
        bind(ui.backendComboBox, lambda: module.parameters, "backend", module.refresh)
        self._paths = {
            "cameraPath": ui.cameraPathEdit,
            "vggsfmPython": ui.vggsfmPythonEdit,
            "vggsfmFolder": ui.vggsfmFolderEdit,
        }
        for name, edit in self._paths.items():
            edit.connect("currentPathChanged(QString)", self._setter(name))
        ui.cameraPathEdit.filters = ui.vggsfmPythonEdit.filters = ctk.ctkPathLineEdit.Files
        ui.vggsfmFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.camerasButton.clicked.connect(lambda: module.run("dense"))

    def _setter(self, name: str):
        def changed(path):
            setattr(self._module.parameters, name, path)
            self._module.refresh()

        return changed

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        ui, parameters = self._ui, self._module.parameters
        select(ui.backendComboBox, parameters.backend)
        for name, edit in self._paths.items():
            show_path(edit, getattr(parameters, name))
        ui.cameraPathEdit.enabled = parameters.backend == "import"
        ui.vggsfmPythonEdit.enabled = ui.vggsfmFolderEdit.enabled = parameters.backend == "vggsfm"
        stage = "cameras" if states["cameras"] != "done" else "dense"
        words = self._module.state_words(stage, states[stage])
        if states["cameras"] == "done" and self.reconstruction is not None:
            found, lost = len(self.reconstruction.cameras), len(self.reconstruction.lost)
            words = _("{found} of {all} frames placed in space. Points: {words}").format(
                found=found, all=found + lost, words=words
            )
        ui.camerasState.text = words

    def show_cameras(self) -> None:
        """Show frusta and sparse points, upright and about life-size until the landmarks say more."""
        folder = self._module.stage_folder("cameras")
        self.reconstruction = None if folder is None else CameraReconstruction.load(folder / "cameras.json")
        self._ui.camerasText.text = ""
        if self.reconstruction is None:
            return
        cameras = self.reconstruction.cameras
        lines = [_("Placed: {names}.").format(names=", ".join(name[:-4] for name in cameras))]
        lines += self.reconstruction.warnings
        self._ui.camerasText.text = " ".join(lines)
        upright = self._upright()
        nodes.show_cameras(self._module.case, {name: camera.moved(upright) for name, camera in cameras.items()})
        if self._module.stage_folder("dense") is None:
            nodes.show_cloud(self._module.case, upright.apply(self.reconstruction.points_world), self.reconstruction.colors)

    def _upright(self):
        """The similarity from world to patient space, or to an upright frame of about life-size while there is no surface."""
        return self._module.result.world_to_patient() or world_upright(list(self.reconstruction.cameras.values()))

    def show_points(self) -> None:
        """Show the dense points instead of the sparse ones."""
        folder = self._module.stage_folder("dense")
        self.points_world = None
        if folder is None or self.reconstruction is None:
            return
        cloud = DenseCloud.load(folder / "dense.npz")
        self.points_world = cloud.points_world.astype(float)
        upright = self._upright()
        step = max(1, len(cloud.points_world) // SHOWN_POINTS)
        nodes.show_cloud(self._module.case, upright.apply(self.points_world[::step]), cloud.colors[::step])
