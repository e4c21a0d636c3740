"""The commands that belong to no capability, one noun a file."""
