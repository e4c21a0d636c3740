"""The stand-in host keeps PythonQt's rules: each habit of PySide that would break in Slicer breaks here."""

import pytest

pytestmark = pytest.mark.fast

pytest.importorskip("PySide6")
pytest.importorskip("slicer")


@pytest.fixture(scope="module")
def qt():
    from Testing.SlicerHost.application import start

    start()
    import qt

    return qt


def test_properties_are_attributes_and_calling_them_raises(qt):
    label, box, button = qt.QLabel("text"), qt.QSpinBox(), qt.QCheckBox("x")
    assert label.text == "text"
    box.maximum = 500
    box.value = 120
    assert (box.value, box.maximum, button.checked, button.enabled) == (120, 500, False, True)
    for attribute in (label, "text"), (box, "value"), (button, "checked"), (button, "enabled"), (label, "visible"):
        with pytest.raises(TypeError):
            getattr(*attribute)()


def test_methods_stay_methods(qt):
    button = qt.QPushButton("x")
    button.setCheckable(True)
    button.setChecked(True)
    assert button.isChecked()
    assert button.fontMetrics().height() > 0
    combo = qt.QComboBox()
    combo.addItem("one", "1")
    assert (combo.count, combo.currentIndex, combo.currentText, combo.findData("1")) == (1, 0, "one", 0)


def test_unknown_attributes_raise_when_read_and_when_set(qt):
    label = qt.QLabel()
    with pytest.raises(AttributeError):
        label.caption  # noqa: B018
    with pytest.raises(AttributeError):
        label.caption = "x"
    with pytest.raises(AttributeError):
        label.Signal  # noqa: B018
    with pytest.raises(AttributeError):
        qt.Signal  # noqa: B018


def test_signals_connect_by_signature_that_exists(qt):
    button, heard = qt.QPushButton("x"), []
    button.connect("clicked(bool)", heard.append)
    button.clicked.connect(lambda: heard.append("attribute"))
    button.click()
    assert heard == [False, "attribute"]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("pressedTwice()", heard.append)


def test_disconnected_slots_hear_nothing(qt):
    button, heard = qt.QPushButton("x"), []

    def slot():
        heard.append(1)

    button.clicked.connect(slot)
    button.clicked.disconnect(slot)
    button.click()
    assert heard == []


def test_surplus_arguments_are_dropped_and_defaults_overwritten(qt):
    box, heard = qt.QSpinBox(), []
    box.connect("valueChanged(int)", lambda: heard.append("none"))
    box.connect("valueChanged(int)", lambda value=7: heard.append(value))
    box.value = 3
    assert heard == ["none", 3]


def test_enums_sit_on_the_class_and_compare_with_ints(qt):
    assert qt.QProcess.NotRunning == 0
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop == 33
    assert qt.QProcess().state() == qt.QProcess.NotRunning
    with pytest.raises(AttributeError):
        qt.QProcess.ProcessState  # noqa: B018
    with pytest.raises(AttributeError):
        qt.Qt.AlignmentFlag  # noqa: B018


def test_file_dialogs_return_one_path(qt, monkeypatch):
    from PySide6.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getOpenFileName", staticmethod(lambda *arguments: ("/a/file", "filter")))
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*") == "/a/file"


def test_process_gives_bytes_and_a_failed_start_has_no_finished(qt):
    from Testing.workflow import wait

    heard = []
    process = qt.QProcess()
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: heard.append((code, status)))
    process.connect("errorOccurred(QProcess::ProcessError)", lambda error: heard.append(error))
    process.start("/no/such/program", [])
    wait(lambda: heard, 10)
    assert heard == [qt.QProcess.FailedToStart]
    heard.clear()
    process.start("/bin/sh", ["-c", "echo out; exit 3"])
    wait(lambda: heard, 10)
    assert process.readAllStandardOutput().data() == b"out\n"
    assert heard == [(3, qt.QProcess.NormalExit)]


def test_errors_in_slots_are_kept(qt, capsys):
    from Testing.SlicerHost import strict

    button = qt.QPushButton("x")
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in strict.slot_errors.pop()


def test_load_ui_gives_named_children_with_properties(qt, tmp_path):
    import slicer

    path = tmp_path / "panel.ui"
    path.write_text(
        '<?xml version="1.0"?><ui version="4.0"><widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout">'
        '<item><widget class="ctkCollapsibleButton" name="section"><property name="text"><string>Title</string></property>'
        '<layout class="QVBoxLayout"><item><widget class="QSpinBox" name="countBox">'
        '<property name="SlicerParameterName" stdset="0"><string>count</string></property></widget></item>'
        "</layout></widget></item>"
        "</layout></widget><customwidgets><customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends></customwidget>"
        "<customwidget><class>qMRMLWidget</class><extends>QWidget</extends></customwidget></customwidgets></ui>"
    )
    panel = slicer.util.loadUI(str(path))
    panel.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(panel)
    assert ui.section.text == "Title"
    ui.section.collapsed = True
    assert not ui.countBox.isVisibleTo(panel)
    assert ui.countBox.property("SlicerParameterName") == "count"


def test_losing_a_sender_inside_its_own_signal_is_an_error(qt):
    from Testing.SlicerHost import strict
    from Testing.workflow import wait

    class Owner:
        """Holds a process without a parent, as a module may."""

        def start(self, keep):
            self.process, self.ended, self.keep = qt.QProcess(), [], keep
            self.process.connect("finished(int,QProcess::ExitStatus)", self.on_finished)
            self.process.start("/bin/sh", ["-c", "exit 0"])

        def on_finished(self, code, status):
            self.ended.append(code)
            process, self.process = self.process, None
            if self.keep:
                qt.QTimer.singleShot(0, lambda: process.close())

    for keep, count in ((True, 0), (False, 1)):
        strict.slot_errors.clear()
        owner = Owner()
        owner.start(keep)
        wait(lambda owner=owner: owner.ended, 10)
        assert len(strict.slot_errors) == count
    assert "inside its own signal" in strict.slot_errors.pop()


def test_widgets_are_no_instances_of_their_bases_and_colors_can_be_derived_from(qt):
    label = qt.QLabel()
    assert not isinstance(label, qt.QWidget)
    assert isinstance(label, qt.QLabel)

    class Named(qt.QColor):
        pass

    assert Named(255, 0, 0).red() == 255


def test_a_layout_lacks_views_as_slicers_do(qt):
    import slicer

    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(layouts.SlicerLayoutOneUp3DView)
    assert manager.sliceWidget("Red") is None
    manager.setLayout(layouts.SlicerLayoutOneUpRedSliceView)
    assert manager.threeDWidget(0) is None
    manager.setLayout(layouts.SlicerLayoutFourUpView)
    assert manager.sliceWidget("Red") is not None


def test_pythonslicer_is_a_launcher_that_passes_everything_on(qt):
    import subprocess

    import slicer

    program = f"{slicer.app.slicerHome}/bin/PythonSlicer"
    code = "import os, sys; print(os.getpid(), sys.stdin.read()); sys.exit(7)"
    process = subprocess.Popen([program, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate("input", timeout=60)
    number, text = printed.split()
    assert process.returncode == 7
    assert text == "input"
    assert int(number) != process.pid


def test_slicers_own_sources_are_taken_where_they_are(qt, tmp_path):
    """By the environment variable; a stand-in of their layout shows that they are, the real ones run the panel's tests."""
    import os
    import subprocess
    import sys

    from Testing.conftest import ROOT

    package = tmp_path / "slicer" / "parameterNodeWrapper"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import ctk, slicer\nfrom qSlicerSubjectHierarchyModuleWidgetsPythonQt import qMRMLSubjectHierarchyTreeView\n"
        "def connector(widget: slicer.qMRMLNodeComboBox, other: ctk.ctkRangeWidget): pass\nOWN = True\n"
    )
    (tmp_path / "slicer" / "ScriptedLoadableModule.py").write_text(
        "import slicer\nslicer.app.moduleManager().connect('moduleAboutToBeUnloaded(QString)', print)\nOWN = True\n"
    )
    code = (
        "from Testing.SlicerHost import application; application.start()\n"
        "import slicer.parameterNodeWrapper as p, slicer.ScriptedLoadableModule as m; print(p.OWN, m.OWN)"
    )
    for folder, printed in ((tmp_path, "True True"), (tmp_path / "slicer", "")):
        environment = {**os.environ, "SLICER_PYTHON_SOURCES": str(folder)}
        finished = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.stdout.strip() == printed, finished.stderr
        assert ("is not Slicer's Base/Python" in finished.stderr) == (printed == "")


def test_parameter_nodes_are_typed_and_connected(qt):
    from typing import Annotated

    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        count: Annotated[int, WithinRange(1, 9)] = 4
        name: str = "a"

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Parameters(node)
    gui = type("", (), {})()
    gui.box = qt.QSpinBox()
    gui.box.setProperty("SlicerParameterName", "count")
    tag = parameters.connectGui(gui)
    assert (gui.box.value, gui.box.maximum) == (4, 9)
    gui.box.value = 6
    assert (parameters.count, node.GetParameter("count")) == (6, "6")
    parameters.count = 2
    assert gui.box.value == 2
    with pytest.raises(ValueError, match="within"):
        parameters.count = 10
    with pytest.raises(TypeError):
        parameters.name = 3
    parameters.disconnectGui(tag)
    gui.box.value = 8
    assert parameters.count == 2
