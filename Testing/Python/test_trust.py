"""What a clinic asks before it says yes: a case is removed for good, licences are known, nothing leaves and nothing leaks."""

import os
import re

import pytest

from BreastReconstructionLib.core.licences import NEEDED, Licence, installed_licences
from BreastReconstructionLib.core.lock import held
from Testing.conftest import ROOT, assert_one_sentence, run_cli

# Removal ----------------------------------------------------------------------------------------------------------------


def test_a_case_is_removed_for_good(case, small_input):
    asked = run_cli("remove-case", case)
    assert_one_sentence(asked, 2, "Nothing was removed", "--yes")
    assert (case / "surface.ply").exists()
    outside = case.parent / "kept.txt"
    outside.write_text("kept")
    os.link(outside, case / "second name.txt")
    (case / "link.txt").symlink_to(outside)
    (case / "folder").symlink_to(case.parent)
    finished = run_cli("remove-case", case, "--yes")
    assert finished.returncode == 0, finished.stderr
    assert not case.exists()
    assert outside.read_text() == "kept"
    assert all(path.exists() for path in small_input)
    for words in ("solid state disk", f"the input {small_input[1].name}", "second name.txt", "link.txt"):
        assert words in finished.stdout


def test_files_are_overwritten_before_they_go(case, monkeypatch):
    """What a file's blocks hold when its name is taken away is noise."""
    from BreastReconstructionLib.core import removal
    from BreastReconstructionLib.core.progress import Progress

    before = {path: path.read_bytes() for path in case.rglob("*") if path.is_file()}
    held_open = {path: open(path, "rb") for path in before}
    monkeypatch.setattr(removal.os, "fsync", lambda descriptor: written.append(os.path.getsize(f"/proc/self/fd/{descriptor}")))
    written = []
    removal.remove_case(case, Progress())
    assert sorted(written) == sorted(len(content) for content in before.values())
    for file in held_open.values():
        assert file.read() == b""
        file.close()


@pytest.mark.fast
def test_what_is_no_case_is_not_removed(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    assert_one_sentence(run_cli("remove-case", tmp_path / "photos", "--yes"), 9, "not a case folder", "nothing was removed")
    assert (tmp_path / "photos" / "cat.png").exists()
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "case.json").write_text('{"format": 2, "stages": {}}')
    (tmp_path / "link").symlink_to(tmp_path / "case")
    assert_one_sentence(run_cli("remove-case", tmp_path / "link", "--yes"), 9, "is a link")
    with held(tmp_path / "case" / "case.lock", "case"):
        assert_one_sentence(run_cli("remove-case", tmp_path / "case", "--yes"), 9, "Another job")
    assert (tmp_path / "case" / "case.json").exists()


# Licences ---------------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_every_licence_is_known_and_permissive():
    found = installed_licences()
    assert {one.package.lower().replace("_", "-") for one in found} >= {name.lower() for name in NEEDED}
    assert [one.package for one in found if not one.licence] == []
    assert [one.package for one in found if one.strict] == []
    strict = ("GPL-3.0-or-later", "GNU General Public License v3 (GPLv3)", "AGPL-3.0", "CC-BY-NC: Non-Commercial")
    assert all(Licence("some", "1", licence).strict for licence in strict)
    assert not any(
        Licence("some", "1", licence).strict for licence in ("LGPL-3.0", "GNU Lesser General Public License v3", "MIT")
    )


@pytest.mark.fast
def test_the_list_of_licences_starts_from_what_is_installed():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M).group(1)
    assert tuple(re.findall(r'"([\w-]+)', block)) == NEEDED


@pytest.mark.fast
def test_licences_as_a_table(tmp_path):
    finished = run_cli("licences", "--csv", tmp_path / "licences.csv")
    assert finished.returncode == 0, finished.stderr
    rows = (tmp_path / "licences.csv").read_text().splitlines()
    assert rows[0] == "package,version,licence"
    assert any(row.startswith("torch,") for row in rows)
