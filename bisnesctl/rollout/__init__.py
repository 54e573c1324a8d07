"""Moves bots between the legacy side and the isolated processes by degrees, and back if the moved ones do worse.

A side is a mode of the deployment: `legacy` or `multiprocess`. Which side serves a bot is a fact in the database; it
and the hand-over are in `bisnesctl.bots.ownership`.

plan       the order in which bots move, and the steps: pure functions
state      one rollout, as the table `rollout` has it
decision   the next action of a rollout: a pure function of its state, of what was observed, and of the time
driver     observes, decides and acts, one process at a time
figures    measures both sides since the step began
verdict    compares both sides' figures: pass, fail or hold
"""
