"""Trainers.  Run as `python -m training.<name>` from the project's root."""
