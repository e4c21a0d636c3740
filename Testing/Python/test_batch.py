"""Many cases by one list: read, run, resumed, in an array, on a cluster; and what its table says."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from BreastReconstructionLib.capabilities.torso import TORSO
from BreastReconstructionLib.capabilities.torso.stages import FRAMES, SCALE, SURFACE
from BreastReconstructionLib.core.batch import read_list
from BreastReconstructionLib.core.case import read_case_file
from BreastReconstructionLib.core.errors import OptionError
from Testing.conftest import assert_one_sentence, forget_from, run_cli

# As small_arguments gives them.
SMALL = {
    "approximate-scale": "yes",
    "frames": 16,
    "strategy": "uniform",
    "detail": 4,
    "feature-pixels": 480,
    "patch-rounds": 1,
    "refine-cell": 5,
}


def write_list(path, small_input, cases, delimiter=",", **others):
    pictures, picks = small_input
    columns = ["case", "video", "landmarks", *SMALL, *others]
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(columns)
        for case in cases:
            table.writerow([case, pictures, picks, *SMALL.values(), *others.values()])
    return path


def results(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def two_cases(small_case, tmp_path):
    """Two copies of the small case that lack their report."""
    for name in ("first", "second"):
        forget_from(shutil.copytree(small_case, tmp_path / name), "report")
    return tmp_path


def test_one_row_fails_and_the_others_are_done(small_input, two_cases):
    listed = write_list(two_cases / "list.csv", small_input, ["first", "second", "third"])
    text = listed.read_text(encoding="utf-8-sig").splitlines()
    text[3] = text[3].replace(str(small_input[1]), str(two_cases / "none.csv"))
    listed.write_text("\n".join(text))
    finished = run_cli("batch", listed)
    assert_one_sentence(finished, 14, "1 of 3 rows failed; the first is row 3", "none.csv")
    table = results(two_cases / "list-results.csv")
    assert [row["state"] for row in table] == ["done", "done", "failed"]
    assert all(float(row["median_uncertainty_mm"]) > 0 and float(row["measured_percent"]) > 20 for row in table[:2])
    assert "none.csv" in table[2]["message"]
    assert str(two_cases) not in json.dumps(table)

    ended = {name: read_case_file(two_cases / name)["stages"]["report"]["finished"] for name in ("first", "second")}
    listed = write_list(listed, small_input, ["first", "second"])
    start = time.monotonic()
    again = run_cli("batch", listed, "--json-progress")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["done"] == 2
    assert time.monotonic() - start < 60
    assert {name: read_case_file(two_cases / name)["stages"]["report"]["finished"] for name in ended} == ended


def test_a_row_of_an_array_writes_no_table(small_input, two_cases):
    listed = write_list(two_cases / "list.csv", small_input, ["first", "second"])
    rows = [subprocess.Popen([sys.executable, "-m", "BreastReconstructionLib", "batch", listed, "--row", str(k)]) for k in (1, 2)]
    assert [row.wait(120) for row in rows] == [0, 0]
    assert not (two_cases / "list-results.csv").exists()
    assert all("report" in read_case_file(two_cases / name)["stages"] for name in ("first", "second"))
    assert_one_sentence(run_cli("batch", listed, "--row", 3), 2, "there is no row 3")


def test_on_the_workers_of_a_cluster(small_input, two_cases):
    distributed = pytest.importorskip("distributed")
    listed = write_list(two_cases / "list.csv", small_input, ["first", "second"])
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        finished = run_cli("batch", listed, "--dask", cluster.scheduler_address)
    assert finished.returncode == 0, finished.stderr
    assert [row["state"] for row in results(two_cases / "list-results.csv")] == ["done", "done"]
    assert_one_sentence(run_cli("batch", listed, "--dask", "tcp://127.0.0.1:9"), 2, "No Dask scheduler answers")


def test_cancelled_it_stops_its_programs_and_goes_on_later(small_input, two_cases):
    for name in ("first", "second"):
        forget_from(two_cases / name, "cameras")
    listed = write_list(two_cases / "list.csv", small_input, ["first", "second"])
    process = subprocess.Popen(
        [sys.executable, "-m", "BreastReconstructionLib", "batch", str(listed)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (two_cases / "first" / "cameras.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert [row["state"] for row in results(two_cases / "list-results.csv")] == ["failed", "not done"]
    assert not list(two_cases.glob("*/case.lock"))
    assert not list(two_cases.glob("*/batch.cancel"))


@pytest.mark.fast
def test_a_list_as_spreadsheets_write_it(tmp_path, small_input):
    listed = write_list(
        tmp_path / "list.csv", small_input, ["a", "b"], delimiter=";", distance="left-nipple:right-nipple=210|x:y=3"
    )
    first, second = read_list(listed, TORSO.stages)
    assert (first.number, second.number, second.case) == (1, 2, tmp_path / "b")
    assert first.settings.of(FRAMES).frame_count == 16
    assert first.settings.of(SURFACE).detail_mm == 4.0
    assert first.settings.of(SCALE).distance == ("left-nipple:right-nipple=210", "x:y=3")
    assert first.settings.of(SCALE).approximate_scale is True


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("video\nx.mp4\n", "no column 'case'"),
        ("case,vidoe\na,b\n", "unknown column 'vidoe'"),
        ("case,case\na,b\n", "twice"),
        ("case,video\n", "has no rows"),
        ("case,video\na,x.mp4,7\n", "Row 1 of the list list.csv: it has more or fewer cells"),
        ("case,video\n,x.mp4\n", "the cell 'case' is empty"),
        ("case,video\na,x.mp4\n./a,y.mp4\n", "Rows 1 and 2 of the list list.csv share a case"),
        ("case,frames\na,many\n", "frames must be from 8 to 1000"),
        ("case,strategy\na,blurred\n", "must be one of sharp, uniform"),
        ("case,mirrored\na,perhaps\n", "mirrored must be yes or no"),
        ("case,quality\na,best\n", "normal or draft"),
    ],
)
def test_bad_lists_are_said_by_row(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(OptionError, match=words.replace("(", r"\(")):
        read_list(path, TORSO.stages)
