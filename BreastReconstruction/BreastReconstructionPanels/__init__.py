"""The sections of the module's panel, and the process that does their work."""
