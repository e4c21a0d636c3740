"""Section Result: the surface in the scene, in words, and as files."""

import json
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.torso.stages import REPORT, SURFACE
from BreastReconstructionLib.mesh.files import write_ply
from BreastReconstructionLib.scene import clinic, nodes, patient, views


class ResultSection:
    """Shows and exports the surface of the case."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self._outlines = {}
        ui = self._ui
        self._colourings = {
            ui.textureButton: "texture",
            ui.residualButton: "residual_mm",
            ui.viewsButton: "views",
            ui.detailButton: "detail_mm",
        }
        for button, colouring in self._colourings.items():
            button.clicked.connect(self._colourer(colouring))
        ui.refinementSlider.connect("valueChanged(double)", self._on_refinement)
        ui.slicesCheckBox.connect("toggled(bool)", self._show_in_slices)
        ui.outlineCheckBox.connect("toggled(bool)", self._on_outline)
        ui.exportButton.clicked.connect(self._export)
        ui.reportButton.clicked.connect(self._open_sheet)
        ui.folderButton.clicked.connect(lambda: self._open(self._module.case_folder))

    def node(self):
        """Return the case's surface node, or None."""
        case = self._module.case_folder
        return None if case is None else patient.find_node(case, nodes.SURFACE)

    def refresh(self, states) -> None:
        """Say in words how good the result is, and whether it is out of date."""
        ui, report = self._ui, self._module.result_of(REPORT)
        ui.resultState.text = self._module.state_words(REPORT, states[REPORT.name])
        ready = report is not None
        for widget in (ui.reportButton, ui.folderButton, ui.outlineCheckBox):
            widget.enabled = ready
        has_node = self.node() is not None
        for widget in (*self._colourings, ui.slicesCheckBox, ui.exportButton):
            widget.enabled = has_node
        surface = self._module.result_of(SURFACE)
        refined = has_node and surface is not None and surface.unrefined_ras is not None
        for widget in (ui.detailButton, ui.refinementSlider):
            widget.enabled = refined
        ui.resultText.text = ""
        if ready:
            share = 100 * report.numbers["surface"]["seen_share"]
            seen = _("{share:.0f} % of the surface is seen by a frame.").format(share=share)
            ui.resultText.text = "\n".join([seen, *report.lines()])

    def world_to_patient(self):
        """Return the similarity from world to patient space (mm, RAS), or None while there is no surface."""
        surface = self._module.result_of(SURFACE)
        return None if surface is None else surface.world_to_patient

    def show(self) -> None:
        """Put surface and landmarks of the case into the scene, in two turns of the event loop."""
        case, report, surface = self._module.case_folder, self._module.result_of(REPORT), self._module.result_of(SURFACE)
        if report is None or surface is None:
            return
        self._outlines = {}
        mesh = surface.mesh
        qt.QTimer.singleShot(0, lambda: self._show_mesh(case, mesh, surface.landmarks_ras, report))

    def _show_mesh(self, case: Path, mesh, landmarks_ras, report) -> None:
        if case != self._module.case_folder:
            return
        self._ui.refinementSlider.value = 1.0
        nodes.show_surface(case, mesh, self._module.parameters.colouring)
        nodes.show_landmarks(case, landmarks_ras)
        clinic.place_new_nodes(case)
        self._write_provenance(case, report.numbers, report.doubts)
        self._module.cameras.show_cameras()
        self._module.cameras.show_points()
        for role in (nodes.CLOUD, nodes.CAMERAS):  # they hide the surface, and it is what counts now
            node = patient.find_node(case, role)
            if node is not None:
                node.GetDisplayNode().SetVisibility(False)
        view = views.three_d_view()
        if view is None:
            self._module.say(_("Done. The view layout has no 3D view; choose another layout to see the surface."))
        else:
            view.resetFocalPoint()
            view.rotateToViewAxis(3)  # anterior
            view.resetCamera()
        self._module.refresh()

    def _write_provenance(self, case: Path, report: dict, doubts: list) -> None:
        node = self.node()
        if node is not None:  # a number that is doubted says so wherever the surface goes
            node.SetAttribute("BreastReconstruction.doubts", " ".join(doubts) or None)
        patient.write_provenance(
            case,
            {
                "program": report["program"],
                "doubts": " ".join(doubts),
                "handedness": report["handedness"],
                "written": report["written"],
                "scale": report["scale"]["source"],
                "relative_scale_uncertainty": report["scale"]["relative_uncertainty"],
                "model": report["fit"]["model"],
                "frames": f"{report['frames']['registered']} of {report['frames']['selected']}",
                "median_uncertainty_mm": f"{report['surface']['median_uncertainty_mm']:.2f}",
                "parameters": json.dumps(self._module.patients.parameters_as_values()),
            },
        )

    def outline(self, frame: str):
        """Return the outline's (N, 2) pixels on a frame if they are to be shown, else None."""
        report = self._module.result_of(REPORT) if self._ui.outlineCheckBox.checked else None
        if report is None:
            return None
        self._outlines = self._outlines or report.outlines
        return self._outlines.get(frame)

    def export(self, path: Path) -> None:
        """Write the surface node as PLY (colours, scalars), STL or OBJ; all in LPS mm, which Slicer reads back in place."""
        node = self.node()
        if node is None:
            self._module.say(_("There is no surface in the scene; press Reconstruct first."))
            return
        self._ui.refinementSlider.value = 1.0  # what is saved is the refined surface
        try:
            if path.suffix.lower() == ".ply":
                write_ply(path, nodes.mesh_of(node))
            elif not self._write_by_slicer(node, path):
                raise OSError
        except OSError:
            self._module.say(_("{name} cannot be written there; choose another folder.").format(name=path.name))
            return
        self._module.say(_("The surface is in {name}, in LPS millimetres.").format(name=path.name))

    @staticmethod
    def _write_by_slicer(node, path: Path) -> bool:
        storage = slicer.vtkMRMLModelStorageNode()
        storage.SetFileName(str(path))
        storage.SetCoordinateSystem(slicer.vtkMRMLStorageNode.CoordinateSystemLPS)
        return path.parent.is_dir() and bool(storage.WriteData(node))

    def _colourer(self, colouring: str):
        def clicked():
            self._module.parameters.colouring = colouring
            if self.node() is not None:
                nodes.colour_surface(self.node(), colouring)
            self._module.refresh()

        return clicked

    def _on_refinement(self, share: float) -> None:
        """Show the surface between the shape model's, at 0, and the refined one, at 1."""
        surface, node = self._module.result_of(SURFACE), self.node()
        if surface is not None and surface.unrefined_ras is not None and node is not None:
            nodes.move_surface(node, surface.unrefined_ras + share * (surface.mesh.vertices - surface.unrefined_ras))

    def _show_in_slices(self, checked: bool) -> None:
        if self.node() is not None:
            self.node().GetDisplayNode().SetVisibility2D(checked)

    def _on_outline(self, checked: bool) -> None:
        self._module.landmarks.show_again()

    def _export(self) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self._module.parent, _("Export surface"), "surface.ply", _("Surface (*.ply *.stl *.obj)")
        )
        if path:
            self.export(Path(path))

    def _open_sheet(self) -> None:
        report = self._module.result_of(REPORT)
        self._open(None if report is None else report.sheet)

    def _open(self, path) -> None:
        if path is None or not path.exists():
            self._module.say(_("There is no report yet; press Reconstruct first."))
            return
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
