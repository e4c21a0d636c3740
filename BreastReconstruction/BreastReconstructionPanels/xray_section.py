"""Section Bone from X-ray: the bone that a radiograph shows, a template on it, and its outline over the picture. Research use."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.xray.stages import XRAY
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.scene.clinic import show_mesh

from .room import Room

BONE, TEMPLATE = "bone", "bone template"
COLOUR, TEMPLATE_COLOUR = (0.93, 0.88, 0.76), (0.55, 0.75, 0.9)
PICTURE_PX = 360


class XraySection:
    """Reconstructs, and shows bone, template and outline.

    Args:
        module: the panel.
        layout: the section is put at its end.
    """

    def __init__(self, module, layout):
        self._module = module
        words = _(
            "Research use: a right or left femur from one radiograph, or from AP and lateral. The bundled model knows synthetic "
            "femurs only. Give the distances: without them the bone's size is unknown."
        )
        options, button = options_of(XRAY.options), _("Reconstruct the bone")
        self._room = Room(module, layout, "xray", _("Bone from X-ray"), words, options, button, self.reconstruct)
        self.button, self.state, self.text = self._room.button, self._room.state, self._room.text
        self.picture = qt.QLabel()
        self.picture.toolTip = _("The radiograph with the outline of the bone that was found")
        self._room.rows.addRow(self.picture)

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        self._room.form.refresh()
        state = states[XRAY.name]
        self.state.text = _("Ready.") if state is StageState.NOT_DONE else self._module.state_words(XRAY, state)
        self.button.enabled = not self._module.running

    def reconstruct(self) -> None:
        """Start; a case folder of its own if none is open."""
        parameters = self._module.parameters
        if not parameters.xray_picture:
            self._module.say(_("Choose a radiograph."))
            return
        if not parameters.case_folder:
            name = Path(parameters.xray_picture).name.split(".")[0]
            self._module.choose_case(str(Path.home() / "BreastReconstruction" / (name or "bone")))
        self._module.run(XRAY)

    def stage_done(self, name: str) -> None:
        """Show the bone once it is there."""
        if name == XRAY.name:
            self.show()

    def show(self) -> None:
        """Put the bone of the case into the scene, and its outline into the panel."""
        found = self._module.result_of(XRAY)
        if found is None:
            return
        case, numbers = self._module.case_folder, found.numbers
        show_mesh(case, found.bone, BONE, COLOUR)
        if found.template is not None:
            show_mesh(case, found.template, TEMPLATE, TEMPLATE_COLOUR, shown=False)
        pixmap = qt.QPixmap(str(found.overlay_file))
        self.picture.setPixmap(pixmap.scaledToHeight(PICTURE_PX))
        lines = [
            _("{side} {bone}, {length:.0f} mm long. Research use only.").format(
                side=numbers["side"].capitalize(), bone=numbers["bone"], length=numbers["length_mm"]
            )
        ]
        if numbers["uncertainty_mm"] is not None:
            words = _("Uncertainty of its surface {surface:.1f} mm, along the beam {depth:.1f} mm, at the distances given.")
            lines.append(words.format(surface=numbers["uncertainty_mm"], depth=numbers["depth_uncertainty_mm"]))
        self.text.text = "\n".join([*lines, *found.warnings])
