"""`bisnesctl release`: releases side by side, and the switch between them. Each file is one of its commands."""

from bisnesctl.cli.release import install, list_releases, prune, roll_back, switch

__all__ = ["install", "list_releases", "prune", "roll_back", "switch"]
