"""Fixtures of the tests that use the panel in the host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from Testing.SlicerHost import strict
from Testing.workflow import choose, open_panel, wait


@pytest.fixture(autouse=True)
def no_errors_in_slots():
    strict.slot_errors.clear()
    yield
    assert strict.slot_errors == []


@pytest.fixture(scope="module")
def panel():
    panel = open_panel()
    panel.enter()
    yield panel
    panel.cleanup()


@pytest.fixture
def own_case(small_case, tmp_path):
    """A finished small case of this test's own: other tests compare the shared one with what they asked for."""
    return Path(shutil.copytree(small_case, tmp_path / "small case"))


@pytest.fixture
def fresh(panel, small_input, tmp_path):
    """An empty scene with the small picture folder chosen, and 16 evenly spaced frames."""
    import slicer

    slicer.mrmlScene.Clear(0)
    wait(lambda: not panel.ui.casePathEdit.currentPath, 5)
    pictures, _ = small_input
    panel.ui.videoPathEdit.currentPath = str(pictures)
    panel.ui.casePathEdit.currentPath = str(tmp_path / "case")
    panel.ui.frameCountSpinBox.value = 16
    choose(panel.ui.strategyComboBox, "uniform")
    choose(panel.ui.scaleComboBox, "approximate")
    panel.ui.detailSpinBox.value = 6.0
    return panel


def start_and_wait_for(panel, button, stage, at_least=1):
    button.click()
    wait(lambda: panel._running_stage == stage and panel._stage_percent >= at_least, 120)
