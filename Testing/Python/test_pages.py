"""The pages: every link leads somewhere, and the examples run as they stand there."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from BreastReconstructionLib.capabilities import STAGES
from Testing.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.fast
def test_readme_is_for_a_newcomer():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    for word in ("bash Testing/install.sh", "bash Testing/run.sh", "Film", "Mark", "Run", "Apache-2.0", "docs/accuracy.md"):
        assert word in text


@pytest.mark.fast
def test_every_page_is_in_the_contents():
    index, site = (ROOT / "docs" / "index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index
        assert page.name in site


@pytest.mark.fast
def test_formats_page_names_what_is_published():
    text = (ROOT / "docs" / "formats.md").read_text()
    for stage in STAGES:
        for name in stage.publishes:
            assert name.split("/")[1] in text


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, sample, draft_case):
    """A folder in which the examples find what they name; the case is the sample's draft, so that nothing is computed twice."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(draft_case, folder / "case")
    for name in ("video.mp4", "picks.csv"):
        shutil.copy(sample / name, folder / name)
    return folder


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run_as_they_stand(workplace, number):
    code = EXAMPLES[number]
    body = [line for line in code.strip().splitlines() if line and not line.startswith("import")]
    assert len(body) <= 10
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=workplace, env=environment, check=False
    )
    assert finished.returncode == 0, finished.stderr
    words = ("printed marker DICT_4X4_50", "surface done", "square centimetres", "navel at")[number]
    assert words in finished.stdout
