"""Retention: what is deleted when, and the run that deletes it."""
