"""`python -m BreastReconstructionLib`: the command line; also what the Slicer module's worker process runs."""

import sys

from .cli import main

sys.exit(main())
