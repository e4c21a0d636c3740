"""How unknowns are found: damped Gauss-Newton, and the trainer of networks."""
