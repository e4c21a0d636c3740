"""Section Scale: what is known in millimetres."""

from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.torso.stages import MARKERS, SCALE, SURFACE
from BreastReconstructionLib.core.settings import every_option
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES

from .choices import bind, fill, select
from .form import OptionsForm

DICTIONARIES = ("DICT_4X4_50", "DICT_5X5_50", "DICT_6X6_50", "DICT_ARUCO_ORIGINAL", "DICT_APRILTAG_36h11")


class ScaleSection:
    """Chooses the source of the scale and shows its uncertainty."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        ui = self._ui
        fill(
            ui.scaleComboBox,
            [
                ("distance", _("a distance between two landmarks")),
                ("marker", _("a printed ArUco marker in the video")),
                ("both", _("both, which are compared")),
                ("approximate", _("nothing: approximate, by mean body size")),
            ],
        )
        names = [(name, name) for name in LANDMARK_NAMES]
        fill(ui.distanceFromComboBox, names)
        fill(ui.distanceToComboBox, names)
        fill(ui.markerComboBox, [(name, name) for name in DICTIONARIES])
        bind(ui.scaleComboBox, lambda: module.parameters, "scale_kind", self._on_kind)
        bind(ui.distanceFromComboBox, lambda: module.parameters, "distance_from", module.refresh)
        bind(ui.distanceToComboBox, lambda: module.parameters, "distance_to", module.refresh)
        bind(ui.markerComboBox, lambda: module.parameters, "marker_dictionary", module.refresh)

        self._form = OptionsForm(module, ui.scaleForm, every_option((MARKERS, SCALE)))

    def _on_kind(self) -> None:
        self._module.parameters.further_scales = ""  # they belonged to what was chosen before
        self._module.refresh()

    def refresh(self, states) -> None:
        """Show the parameters and, once there is a surface, the scale's source and uncertainty."""
        ui, parameters = self._ui, self._module.parameters
        self._form.refresh()
        for combo, name in (
            (ui.scaleComboBox, "scale_kind"),
            (ui.distanceFromComboBox, "distance_from"),
            (ui.distanceToComboBox, "distance_to"),
            (ui.markerComboBox, "marker_dictionary"),
        ):
            select(combo, getattr(parameters, name))
        distance, marker = parameters.scale_kind in ("distance", "both"), parameters.scale_kind in ("marker", "both")
        for widget in (ui.distanceFromComboBox, ui.distanceToComboBox, ui.distanceSpinBox):
            widget.enabled = distance
        for widget in (ui.markerComboBox, ui.markerNumberSpinBox, ui.markerSpinBox):
            widget.enabled = marker
        if needed := self.missing():
            ui.scaleState.text = needed
        elif parameters.scale_kind == "approximate":
            ui.scaleState.text = _("Ready, but approximate: lengths may be wrong by several per cent.")
        else:
            ui.scaleState.text = _("Ready.")
        surface = self._module.result_of(SURFACE)
        further = parameters.further_scales
        ui.scaleText.text = _("Compared with {further}.").format(further=further) if further else ""
        if surface is not None:
            scale = surface.scale
            words = _("{source}; uncertain by {percent:.1f} % ({mm:.1f} mm over 25 cm).").format(
                source=scale.source, percent=100 * scale.relative_uncertainty, mm=250 * scale.relative_uncertainty
            )
            doubts = [_("DOUBTFUL: {doubt}").format(doubt=doubt) for doubt in scale.doubts]
            in_view = [_("In view: {markers}.").format(markers="; ".join(scale.markers_in_view))] if scale.markers_in_view else []
            ui.scaleText.text = "\n".join([*doubts, words, *in_view])

    def missing(self) -> str:
        """Say what is needed before a surface can have its scale, '' if nothing is."""
        parameters = self._module.parameters
        if parameters.scale_kind in ("distance", "both"):
            if parameters.distance_from == parameters.distance_to:
                return _("Needs two different landmarks.")
            if parameters.distance_mm <= 0:
                return _("Needs the distance that you measured, in millimetres.")
        if parameters.scale_kind in ("marker", "both") and parameters.marker_mm <= 0:
            return _("Needs the side of the marker's black square that you measured, in millimetres.")
        return ""
