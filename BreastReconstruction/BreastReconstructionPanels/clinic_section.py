"""Section Combine and measure: the surface with a CT or MRI, in numbers, and against an earlier visit."""

from pathlib import Path

import ctk
import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.clinic.results import DECIDED_BY
from BreastReconstructionLib.capabilities.clinic.stages import COMPARE, MEASURE, REGISTER, SCAN_WALL, SKIN, SUMMARY
from BreastReconstructionLib.capabilities.clinic.visits import series_of
from BreastReconstructionLib.capabilities.torso.stages import SURFACE
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.landmarks.curves import add_points, write_boundaries
from BreastReconstructionLib.measurement.distances import ALONG
from BreastReconstructionLib.mesh.files import read_mesh
from BreastReconstructionLib.mesh.geodesics import length_of, surface_path
from BreastReconstructionLib.scene import clinic, patient

from .choices import bind_path, fill, select, show_path
from .form import OptionsForm
from .scan_placing import ScanPlacing

SKIN_COLOUR, WALL_COLOUR, BREAST_COLOUR = (0.75, 0.75, 0.8), (0.4, 0.6, 0.9), (0.9, 0.6, 0.5)
# The wall whose volumes are shown first.
SHOWN_WALL = "population"
SHOWN_CURVES = ("notch-to-nipple-along", "inframammary-fold", "breast-boundary")


class ClinicSection:
    """Chooses a volume, registers, measures, compares, and shows what came of it.

    Args:
        module: the panel.
        layout: the section is put at its end.
    """

    def __init__(self, module, layout):
        self._module, self._stops = module, []
        section = ctk.ctkCollapsibleButton()
        section.text = _("Combine and measure")
        section.objectName = "clinicSection"
        self._rows = qt.QFormLayout(section)
        self.volume = qt.QComboBox()
        self.volume.toolTip = _("A CT or MRI of this patient that is loaded in Slicer (DICOM, NRRD, NIfTI)")
        self._rows.addRow(_("CT or MRI"), self.volume)
        self._forms = []
        self.state, self.buttons = {}, {}
        self._add_stage(SKIN, None)
        self.placing = ScanPlacing(module, self._rows)
        self._add_stage(REGISTER, _("Register to the volume"), self.register)
        self._add_stage(MEASURE, _("Measure"), self.measure)
        self._add_stage(SCAN_WALL, _("Measure to that wall"), lambda: module.run(SCAN_WALL))
        self.earlier = ctk.ctkPathLineEdit()
        self.earlier.filters = ctk.ctkPathLineEdit.Dirs
        self.earlier.toolTip = _("Case folder of an earlier visit of the same patient")
        bind_path(self.earlier, lambda: module.parameters, "earlier", module.refresh)
        self._rows.addRow(_("Earlier visit"), self.earlier)
        self._add_stage(COMPARE, _("Compare"), lambda: module.run(COMPARE))
        self.visits = qt.QPushButton(_("Table and plot of the visits in the scene"))
        self.visits.toolTip = _(
            "Measured cases of one patient that are open in this scene, in the order in which they were opened"
        )
        self.visits.clicked.connect(self.show_visits)
        self._rows.addRow(self.visits)
        self._add_stage(SUMMARY, _("Write PDF"), lambda: module.run(SUMMARY))
        self.text = qt.QLabel()
        self.text.wordWrap = True
        self._rows.addRow(self.text)
        layout.addWidget(section)
        section.collapsed = True
        self.widget = section  # kept: the panel lets go what nobody holds
        self._show = {
            SKIN.name: self._show_skin,
            REGISTER.name: self._show_registration,
            MEASURE.name: self._show_measurements,
            SCAN_WALL.name: self._show_scan_wall,
            COMPARE.name: self._show_change,
            SUMMARY.name: self._say_pdf,
        }

    def refresh(self, states) -> None:
        """Show volumes, parameters and states."""
        found = [(node.GetID(), node.GetName()) for node in clinic.volumes_in_scene()]
        chosen = self.volume.itemData(self.volume.currentIndex) if self.volume.count else ""
        fill(self.volume, [("", _("(choose)")), *found])
        select(self.volume, chosen)
        show_path(self.earlier, self._module.parameters.earlier)
        ready = states[SURFACE.name] is not StageState.NOT_DONE and not self._module.running
        for form in self._forms:
            form.refresh()
        self.placing.refresh(ready)
        for stage, button in self.buttons.items():
            button.enabled = ready
            self.state[stage].text = self._module.state_words(stage, states[stage.name]) if ready else _("Needs a surface.")

    def register(self) -> None:
        """Find the skin of the chosen volume, and bring the surface to it."""
        node = slicer.mrmlScene.GetNodeByID(self.volume.itemData(self.volume.currentIndex) or "")
        if node is None:
            self._module.say(_("Choose the CT or MRI volume first; load it in Slicer by DICOM or Add Data."))
            return
        try:
            path = clinic.file_of_volume(node, self._module.case_folder / "scan")
        except BreastReconstructionError as error:
            self._module.say(str(error))
            return
        self._module.parameters.volume = str(path)
        self.placing.take()
        self._module.run(REGISTER)

    def measure(self) -> None:
        """Measure, by boundaries and ends of lines as they are in the scene if somebody moved them."""
        case = self._module.case_folder
        measured = self._module.result_of(MEASURE)
        if measured is not None:
            drawn, moved = clinic.read_boundaries(case), clinic.moved_points(case, measured.curves)
            if drawn and clinic.differ(drawn, measured.curves):
                self._module.parameters.breast_boundaries = str(write_boundaries(case, drawn))
            if moved:
                self._module.parameters.measure_points = str(add_points(case, self._module.parameters.measure_points, moved))
        self._module.run(MEASURE)

    def show_visits(self) -> None:
        """Put the numbers of all measured cases of the scene side by side, and plot their volumes."""
        cases = [case for case in patient.cases_in_scene() if patient.find_node(case, clinic.MEASUREMENTS) is not None]
        try:
            series = series_of(cases)
        except BreastReconstructionError as error:
            self._module.say(str(error))
            return
        case = self._module.case_folder
        clinic.show_table(case, clinic.VISITS, *series.table())
        volumes = {
            side: [float("nan") if row is None else row.value for row in found]
            for name, side, method, found in series.rows
            if name == "volume" and f"'{SHOWN_WALL}'" in method
        }
        title = _("Volume to the population's wall, ml")
        clinic.show_plot(case, clinic.VISITS_PLOT, title, list(series.visits), volumes)
        self._module.say(_("{count} visits are side by side in the table 'visits'.").format(count=len(cases)))

    def stage_done(self, name: str) -> None:
        """Show what a stage made."""
        if name in self._show:
            self._show[name]()

    def show(self) -> None:
        """Show all that the case holds."""
        for stage in (SKIN, MEASURE, SCAN_WALL, COMPARE, REGISTER):
            if self._module.has(stage):
                self._show[stage.name]()

    def _add_stage(self, stage, words, run=None) -> None:
        options = [option for option in options_of(stage.options) if not option.by_hand]
        if options:
            form = qt.QWidget()
            self._forms.append(OptionsForm(self._module, form, options))
            self._rows.addRow(form)
        if words is not None:
            button, state = qt.QPushButton(words), qt.QLabel()
            button.objectName = f"{stage.name}Button"
            button.clicked.connect(run)
            self._rows.addRow(button, state)
            self.buttons[stage], self.state[stage] = button, state

    def _show_skin(self) -> None:
        found = self._module.result_of(SKIN)
        if found is not None:
            clinic.show_mesh(self._module.case_folder, found.mesh, clinic.SCAN_SKIN, SKIN_COLOUR, 0.5)

    def _show_registration(self) -> None:
        case, found = self._module.case_folder, self._module.result_of(REGISTER)
        if found is None:
            return
        clinic.show_map(case, found.mesh, "scan_distance_mm", clinic.SCAN_DISTANCE, shown=False)
        clinic.place_in_scan(case, found.surface_to_scan, found.deformation)
        self.placing.show()
        numbers, misses = found.numbers, found.numbers["landmarks_mm"].items()
        lines = [
            _("{where} lies {median:.1f} mm from the volume's skin (median; 90 % within {p90:.1f} mm).").format(
                where=DECIDED_BY[numbers["decided_by"]].capitalize(), median=numbers["median_mm"], p90=numbers["p90_mm"]
            ),
            *(_("{name}: {miss:.0f} mm off.").format(name=name, miss=miss) for name, miss in misses),
            *(_("DOUBTFUL: {doubt}").format(doubt=doubt) for doubt in found.doubts),
            *found.warnings,
        ]
        self.text.text = "\n".join(lines)

    def _show_measurements(self) -> None:
        case, found = self._module.case_folder, self._module.result_of(MEASURE)
        if found is None:
            return
        self._follow(case, clinic.show_curves(case, found.curves, SHOWN_CURVES), found.rows, found.coarse)
        closed = {}
        for name, path in found.meshes.items():
            if "-wall-" in name:
                clinic.show_mesh(case, read_mesh(path), name, WALL_COLOUR, 0.6, shown=name.endswith(SHOWN_WALL))
            elif name.endswith(SHOWN_WALL):
                closed[name] = read_mesh(path)
        surface = self._module.result_of(SURFACE)
        if surface is not None:
            closed["torso"] = found.coarse
            clinic.show_map(case, found.on_skin(surface.mesh), "mirror_mm", clinic.MIRRORED, shown=False)
        clinic.show_segments(case, closed)
        columns = [_("measured"), _("side"), _("value"), _("unit"), _("uncertainty"), _("how")]
        rows = [[r.name, r.side, f"{r.value:.1f}", r.unit, f"{r.uncertainty:.1f}", r.method] for r in found.rows]
        clinic.show_table(case, clinic.MEASUREMENTS, columns, rows)
        clinic.place_new_nodes(case)
        shown = [row.words() for row in found.rows if "volume" in row.name or "notch to nipple" in row.name]
        self.text.text = "\n".join([*shown, *found.warnings])

    def _follow(self, case: Path, nodes: dict, rows, coarse) -> None:
        """Keep the table's distances those of the lines while somebody drags their ends; Measure takes them over."""
        for stop in self._stops:
            stop()
        self._stops = []
        for name in clinic.ends_of_lines():
            places = {row.method.startswith(ALONG): number for number, row in enumerate(rows) if row.key == name}
            if name in nodes:
                follow = self._follower(case, places, coarse, nodes.get(f"{name}-along"))
                self._stops.append(clinic.follow_line(nodes[name], follow))

    @staticmethod
    def _follower(case: Path, places: dict, coarse, curve):
        def changed(first, second):
            if False in places:
                clinic.write_value(case, places[False], float(np.linalg.norm(first - second)))
            path = surface_path(coarse.vertices, coarse.faces, first, second) if True in places else None
            if path is not None:
                clinic.write_value(case, places[True], length_of(path))
                clinic.set_points(curve, path)

        return changed

    def _show_scan_wall(self) -> None:
        case, found = self._module.case_folder, self._module.result_of(SCAN_WALL)
        if found is None:
            return
        for name, path in found.meshes.items():
            clinic.show_mesh(case, read_mesh(path), name, BREAST_COLOUR)
        clinic.place_new_nodes(case)
        self.text.text = "\n".join(row.words() for row in found.rows)

    def _show_change(self) -> None:
        case, found = self._module.case_folder, self._module.result_of(COMPARE)
        if found is None:
            return
        clinic.show_map(case, found.mesh, "change_mm", clinic.CHANGE)
        self._show_earlier(case, found)
        columns = [_("changed"), _("side"), _("by"), _("unit"), _("uncertainty"), _("exceeds it"), _("how")]
        pairs = zip(found.rows, found.exceeding, strict=True)
        rows = [
            [r.name, r.side, f"{r.value:+.1f}", r.unit, f"{r.uncertainty:.1f}", _("yes") if e else "", r.method] for r, e in pairs
        ]
        clinic.show_table(case, clinic.CHANGES, columns, rows)
        clinic.place_new_nodes(case)
        self.text.text = "\n".join([*(row.words() for row in found.rows if row.unit == "ml"), *found.warnings])

    def _show_earlier(self, case: Path, found) -> None:
        """The earlier surface in this visit's place, hidden, beside this one."""
        try:
            earlier = Case(Path(self._module.parameters.earlier)).result(SURFACE)
        except BreastReconstructionError as error:
            self._module.say(str(error))
            return
        clinic.show_earlier(case, clinic.thinned(earlier.mesh), found.earlier_to_later)

    def _say_pdf(self) -> None:
        found = self._module.result_of(SUMMARY)
        if found is not None:
            self.text.text = _("The PDF is in {path}.").format(path=Path(self._module.case_folder) / found.path.name)
