"""The bundled sample, offered in Slicer's Sample Data module."""

import json
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.measurement.scale import parse_marker

from .parameters import set_marker


def register_sample_data() -> None:
    """Offer the bundled phantom's video, and its CT, in Slicer's Sample Data module; they come from the installed files.

    A click there fills the panel; `SampleData.downloadSamples` from Python, which passes the custom downloader over, returns
    the paths of the video and of its landmarks.
    """
    import SampleData

    names = ("video.mp4", "picks.csv")
    icons = Path(__file__).resolve().parent.parent / "Resources" / "Icons"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="BreastReconstruction",
        sampleName="BreastReconstructionPhantom",
        thumbnailFileName=str(icons / "BreastReconstructionPhantom.png"),
        uris=[resource_path("SampleData", "phantom", name).as_uri() for name in names],
        fileNames=[f"BreastReconstructionPhantom-{name}" for name in names],
        nodeNames=[None, None],
        loadFiles=[False, False],
        customDownloader=lambda source: open_sample(),
    )
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="BreastReconstruction",
        sampleName="BreastReconstructionPhantomCT",
        thumbnailFileName=str(icons / "BreastReconstructionPhantom.png"),
        uris=[resource_path("SampleData", "phantom-ct", "volume.nrrd").as_uri()],
        fileNames=["BreastReconstructionPhantomCT.nrrd"],
        nodeNames=["PhantomCT"],
        loadFiles=[True],
    )


def open_sample():
    """Put the bundled sample, video, landmarks and marker, into the panel; returns the paths of video and landmarks."""
    slicer.util.selectModule("BreastReconstruction")
    widget = slicer.modules.BreastReconstructionWidget
    folder = resource_path("SampleData", "phantom")
    widget.choose_video(str(folder / "video.mp4"))
    widget.parameters.scale_kind = "marker"
    set_marker(widget.parameters, parse_marker(json.loads((folder / "truth.json").read_text())["marker"]))
    widget.landmarks.files.load(folder / "picks.csv")
    widget.say(_("The sample is a synthetic patient; press Run all."))
    return [str(folder / "video.mp4"), str(folder / "picks.csv")]
