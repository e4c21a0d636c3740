"""From the fitted shape to a surface: extraction, appearance, files, report."""
