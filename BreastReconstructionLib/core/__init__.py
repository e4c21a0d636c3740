"""What everything stands on: options, stages, their graph, cases, progress, errors."""
