"""`bisnesctl rollout`: bots move to the other side by degrees. Each file is one or two of its commands."""

from bisnesctl.cli.rollout import abort, compare, drive, pause, plan, run, start, status

__all__ = ["abort", "compare", "drive", "pause", "plan", "run", "start", "status"]
