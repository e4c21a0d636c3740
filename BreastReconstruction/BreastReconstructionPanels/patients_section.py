"""The patients of the scene: choose one, remove one, delete one's case."""

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.core.removal import contents_of, remove_case
from BreastReconstructionLib.scene import patient

from .choices import fill, select
from .explore_section import EXPLORED
from .parameters import PARAMETER_NAMES


class PatientsSection:
    """The combo box above the sections."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self._ui.patientComboBox.connect("currentIndexChanged(int)", self._on_chosen)
        self._ui.removePatientButton.clicked.connect(self._remove)
        self._ui.deleteCaseButton.clicked.connect(self._delete)

    def refresh(self) -> None:
        """Show the patients that the scene holds."""
        cases = [case for case in patient.cases_in_scene() if case != EXPLORED]
        case = self._module.case_folder
        fill(self._ui.patientComboBox, [("", _("(new)"))] + [(str(case), case.name) for case in cases])
        select(self._ui.patientComboBox, str(case) if case in cases else "")
        self._ui.removePatientButton.enabled = case in cases
        self._ui.deleteCaseButton.enabled = case is not None and case.is_dir() and not self._module.running

    def parameters_as_values(self) -> dict:
        """Return all parameters by name, to be kept with the patient."""
        return {name: getattr(self._module.parameters, name) for name in PARAMETER_NAMES}

    def _on_chosen(self, index: int) -> None:
        path = self._ui.patientComboBox.itemData(index)
        if path and path != self._module.parameters.case_folder:
            self._module.choose_case(path)
            patient.show_only(Path(path))

    def _remove(self) -> None:
        if self._module.case_folder is not None:
            patient.remove_case(self._module.case_folder)
            self._module.say(_("Removed from the scene; the case folder is kept."))
            self._module.refresh()

    def _delete(self) -> None:
        """Delete the case from the disk, once a person said yes."""
        case = self._module.case_folder
        try:
            found = contents_of(case)
            question = _(
                "Overwrite and delete {count} files ({size} MB) of the case {name}? They cannot be brought back.\n\n"
                "Not reached: the video where it was filmed or copied from, backups and cloud folders, and old blocks of a solid "
                "state disk."
            ).format(count=len(found.files), size=round(found.size / 1e6), name=case.name)
            if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("Delete case")):
                return
            patient.remove_case(case)
            remove_case(case, Progress())
            self._module.say(_("The case {name} is deleted.").format(name=case.name))
            self._module.choose_case("")
        except BreastReconstructionError as error:
            self._module.say(str(error))
        self._module.refresh()
