"""Section Cameras: who finds them, and the result in the 3D view."""

import ctk
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.torso.stages import CAMERAS, DENSE
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.core.settings import every_option
from BreastReconstructionLib.scene import nodes
from BreastReconstructionLib.sfm.reconstruction import world_upright

from .choices import bind, bind_path, fill, select, show_path
from .form import OptionsForm

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
            "camera_path": ui.cameraPathEdit,
            "vggsfm_python": ui.vggsfmPythonEdit,
            "vggsfm_checkout": ui.vggsfmFolderEdit,
        }
        for name, edit in self._paths.items():
            bind_path(edit, lambda: module.parameters, name, module.refresh)
        ui.cameraPathEdit.filters = ui.vggsfmPythonEdit.filters = ctk.ctkPathLineEdit.Files
        ui.vggsfmFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self._form = OptionsForm(module, ui.camerasForm, every_option((CAMERAS, DENSE)))
        ui.camerasButton.clicked.connect(lambda: module.run(DENSE))

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        ui, parameters = self._ui, self._module.parameters
        self._form.refresh()
        select(ui.backendComboBox, parameters.backend)
        for name, edit in self._paths.items():
            show_path(edit, getattr(parameters, name))
        ui.cameraPathEdit.enabled = parameters.backend == "import"
        ui.vggsfmPythonEdit.enabled = ui.vggsfmFolderEdit.enabled = parameters.backend == "vggsfm"
        found_cameras = states[CAMERAS.name] is StageState.DONE
        stage = DENSE if found_cameras else CAMERAS
        words = self._module.state_words(stage, states[stage.name])
        if found_cameras and self.reconstruction is not None:
            found, lost = len(self.reconstruction.cameras), len(self.reconstruction.lost)
            words = _("{found} of {all} frames placed in space. Points: {words}").format(
                found=found, all=found + lost, words=words
            )
        ui.camerasState.text = words

    def by_name(self) -> dict:
        """Return the cameras by the name of their frame, none while they are not found."""
        return {} if self.reconstruction is None else self.reconstruction.cameras

    def show_cameras(self) -> None:
        """Show frusta and sparse points, upright and about life-size until the landmarks say more."""
        self.reconstruction = self._module.result_of(CAMERAS)
        self._ui.camerasText.text = ""
        if self.reconstruction is None:
            return
        cameras = self.reconstruction.cameras
        lines = [_("Placed: {names}.").format(names=", ".join(name[:-4] for name in cameras))]
        lines += self.reconstruction.warnings
        self._ui.camerasText.text = " ".join(lines)
        upright = self.to_patient()
        nodes.show_cameras(self._module.case_folder, {name: camera.moved(upright) for name, camera in cameras.items()})
        if not self._module.has(DENSE):
            points = upright.apply(self.reconstruction.points_world)
            nodes.show_cloud(self._module.case_folder, points, self.reconstruction.colors)

    def to_patient(self):
        """The similarity from world to patient space, or to an upright frame of about life-size while there is no surface."""
        return self._module.result.world_to_patient() or world_upright(list(self.reconstruction.cameras.values()))

    def show_points(self) -> None:
        """Show the dense points instead of the sparse ones."""
        cloud = None if self.reconstruction is None else self._module.result_of(DENSE)
        self.points_world = None
        if cloud is None:
            return
        self.points_world = cloud.points_world.astype(float)
        upright = self.to_patient()
        step = max(1, len(cloud.points_world) // SHOWN_POINTS)
        nodes.show_cloud(self._module.case_folder, upright.apply(self.points_world[::step]), cloud.colors[::step])
