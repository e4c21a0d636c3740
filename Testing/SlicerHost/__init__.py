"""A small stand-in for Slicer's application, in which the real module runs.

Slicer cannot be installed on the machines that build and test this project; `slicer-core` (real MRML, real `slicer.util`),
`trame-slicer` (MRML's own displayable managers in off-screen views) and PySide6 (real Qt) can. This package adds what is
missing, and is *strict* where PythonQt differs from PySide (strict.py), so that what passes here runs in Slicer.

- strict.py: PySide6 behind PythonQt's manners; the module `qt`.
- widgets.py: the CTK and qMRML widgets of the module's .ui; the module `ctk`.
- application.py: `slicer.app`, `slicer.modules`, views, `SampleData`; `load_module`.
- scripted_module.py, parameter_node.py: `ScriptedLoadableModule`, `parameterNodeWrapper`.
- window.py: panel and views in one window, for people and for screenshots.
"""
