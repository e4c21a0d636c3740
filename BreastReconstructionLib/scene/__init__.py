"""MRML: what a case holds, as nodes of the scene; the only folder that imports slicer."""
