"""Moves bots between the legacy side and the isolated processes by degrees, and back if the moved ones do worse."""
