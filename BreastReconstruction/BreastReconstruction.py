"""The Slicer module: so far its entry in Slicer's module list; the panels follow."""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class BreastReconstruction(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Breast Reconstruction")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Surface Models")]
        parent.dependencies = []
        parent.contributors = ["The BreastReconstruction developers"]
        parent.helpText = _("Turns a phone video of a standing patient into a metric 3D surface of the torso.")
        parent.acknowledgementText = _("Method: Weiherer et al., arXiv 2510.13540. Synthetic bodies: MakeHuman (CC0).")
