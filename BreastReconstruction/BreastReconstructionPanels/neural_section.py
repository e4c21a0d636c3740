"""Section Neural surface: a surface learned from the pictures alone, of anything that was filmed, or of places of the torso."""

from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.refinement.stages import EXTRACT, NEURAL
from BreastReconstructionLib.capabilities.torso.stages import CAMERAS
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.core.settings import every_option
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.scene import nodes

from .room import Room

ROLE = "neural surface"


class NeuralSection:
    """Learns, extracts, and shows the mesh.

    Args:
        module: the panel.
        layout: the section is put at its end.
    """

    def __init__(self, module, layout):
        self._module = module
        words = _(
            "For an object that is no torso: film it from all around, give masks if you have some, find the cameras above. "
            "On a processor it takes 5 to 15 minutes. For a torso, 'Refine by the pictures' above is faster."
        )
        options, button = every_option((NEURAL, EXTRACT)), _("Learn the surface")
        run = lambda: module.run(EXTRACT)
        self._room = Room(module, layout, "neural", _("Neural surface"), words, options, button, run)
        self.button, self.state, self.text = self._room.button, self._room.state, self._room.text

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        self._room.form.refresh()
        ready = states[CAMERAS.name] is not StageState.NOT_DONE
        self.button.enabled = ready and not self._module.running
        state = self._module.state_words(EXTRACT, states[EXTRACT.name])
        self.state.text = state if ready else _("Needs cameras.")

    def stage_done(self, name: str) -> None:
        """Show the mesh once it is there."""
        if name == EXTRACT.name:
            self.show()

    def show(self) -> None:
        """Put the mesh of the case into the scene."""
        found = self._module.result_of(EXTRACT)
        if found is None:
            return
        mesh, lines = found.mesh, [_("Scale: {source}.").format(source=found.numbers["scale"]), *found.numbers["warnings"]]
        if mesh.frame is Frame.WORLD:
            mesh = mesh.moved(self._module.cameras.to_patient(), Frame.PATIENT)
            lines.append(_("It is shown as large as a guess: do not measure it."))
        nodes.show_surface(self._module.case_folder, mesh, "texture", ROLE)
        self.text.text = "\n".join(lines)
