"""Synthetic patients with exact ground truth."""

# Whose bodies phantoms have: MakeHuman's; deformed as a clinic's patients are; with landmarks that wander; and of shapes that no
# training sees. See torso.POPULATIONS.
POPULATION_NAMES = ("plain", "clinic", "wide", "foreign")
BONE_NAMES = ("femur", "vertebra", "rib-cage")  # see bones.BONES
