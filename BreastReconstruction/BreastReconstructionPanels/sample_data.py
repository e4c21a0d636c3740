"""The bundled sample, offered in Slicer's Sample Data module."""

import json
from pathlib import Path

import slicer

from BreastReconstructionLib.core.resources import resource_path


def register_sample_data() -> None:
    """Offer the bundled phantom video in Slicer's Sample Data module; it comes from the installed files.

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


def open_sample():
    """Put the bundled sample, video, landmarks and marker, into the panel; returns the paths of video and landmarks."""
    slicer.util.selectModule("BreastReconstruction")
    widget = slicer.modules.BreastReconstructionWidget
    folder = resource_path("SampleData", "phantom")
    widget.open_sample(folder / "video.mp4", folder / "picks.csv", json.loads((folder / "truth.json").read_text())["marker"])
    return [str(folder / "video.mp4"), str(folder / "picks.csv")]
