"""Section Neural surface: a surface learned from the pictures alone, of anything that was filmed, or of places of the torso."""

import ctk
import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.refinement.stages import EXTRACT, NEURAL
from BreastReconstructionLib.capabilities.torso.stages import CAMERAS
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.core.settings import every_option
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.scene import nodes

from .form import OptionsForm

ROLE = "neural surface"


class NeuralSection:
    """Learns, extracts, and shows the mesh.

    Args:
        module: the panel.
        layout: the section is put at its end.
    """

    def __init__(self, module, layout):
        self._module = module
        section = ctk.ctkCollapsibleButton()
        section.text = _("Neural surface")
        section.objectName = "neuralSection"
        rows = qt.QFormLayout(section)
        words = qt.QLabel(
            _(
                "For an object that is no torso: film it from all around, give masks if you have some, find the cameras above. "
                "On a processor it takes 5 to 15 minutes. For a torso, 'Refine by the pictures' above is faster."
            )
        )
        words.wordWrap = True
        rows.addRow(words)
        form = qt.QWidget()
        self._form = OptionsForm(module, form, every_option((NEURAL, EXTRACT)))
        rows.addRow(form)
        self.button, self.state, self.text = qt.QPushButton(_("Learn the surface")), qt.QLabel(), qt.QLabel()
        self.button.objectName = "neuralButton"
        self.button.clicked.connect(lambda: module.run(EXTRACT))
        self.text.wordWrap = True
        rows.addRow(self.button, self.state)
        rows.addRow(self.text)
        layout.addWidget(section)
        section.collapsed = True
        self._section = section  # kept: the panel lets go what nobody holds

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        self._form.refresh()
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
