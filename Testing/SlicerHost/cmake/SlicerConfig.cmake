# Stub of Slicer's CMake package: enough of its macros to configure and install an extension of scripted modules.
# They install where Slicer's own do; see Slicer's slicerMacroBuildScriptedModule.
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicerStub.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/ExtensionStub.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/ExtensionStub.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.11/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.11/qt-scripted-modules)
