"""The neural shape model: its files, alignment, fit, sampling, training and evaluation."""
