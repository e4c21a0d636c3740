"""The six landmarks, found in the pictures by a network, for a person to confirm."""
