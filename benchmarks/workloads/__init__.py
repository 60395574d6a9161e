"""Trainings to track: real enough that they learn, small enough to run anywhere."""
