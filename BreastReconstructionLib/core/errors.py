"""Typed errors. Their text is one sentence for the user: what is wrong, and what to do about it."""

from __future__ import annotations


class BreastReconstructionError(Exception):
    """Base of every error that a user can cause or repair; the command line turns it into one line and `exit_code`."""

    exit_code = 1


class OptionError(BreastReconstructionError):
    """An option, or the name of a stage, that does not exist, or a value that it cannot have."""

    exit_code = 2


class VideoError(BreastReconstructionError):
    """The video or image folder cannot serve as input."""

    exit_code = 3


class CameraError(BreastReconstructionError):
    """The cameras could not be reconstructed, or an imported reconstruction is unusable."""

    exit_code = 4


class LandmarkError(BreastReconstructionError):
    """The landmarks are missing, misplaced, or in the wrong order."""

    exit_code = 5


class PlacesError(LandmarkError, ValueError):
    """Corresponding places that fix no motion: fewer than three, or all on one line."""


class ScaleError(BreastReconstructionError):
    """The metric scale is missing or impossible."""

    exit_code = 6


class ShapeModelError(BreastReconstructionError):
    """A model file is missing, damaged, unsafe, or of other shapes."""

    exit_code = 7


class FitError(BreastReconstructionError):
    """The shape model cannot be fitted to the points, or has no surface where it should have one."""

    exit_code = 8


class CaseError(BreastReconstructionError):
    """The case folder cannot be read or written."""

    exit_code = 9


class DependencyError(BreastReconstructionError):
    """A package or program that this step needs is not installed."""

    exit_code = 10


class VolumeError(BreastReconstructionError):
    """The CT or MRI volume cannot be read, does not show the chest's skin, or its place in the patient is impossible."""

    exit_code = 11


class RegistrationError(BreastReconstructionError):
    """Two surfaces do not match: another patient, a mirrored volume, wrong units, or too little in common."""

    exit_code = 12


class MeasurementError(BreastReconstructionError):
    """Something cannot be measured on this surface: no boundary, no fold, a breast that is absent."""

    exit_code = 13


class BatchError(BreastReconstructionError):
    """Some rows of a list failed; the others are done."""

    exit_code = 14


class Cancelled(BreastReconstructionError):
    """The user cancelled; the case can be resumed."""

    exit_code = 130
