"""The neural shape model: network, files, evaluation, alignment, fit, training."""
