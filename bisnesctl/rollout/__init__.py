"""Moves bots from one side to the other by degrees, and back by itself.

A side is a way to run the deployment: `legacy` or `multiprocess`. Each bot belongs to one side at a time.

(The fact itself, which side serves a bot, and hand-overs: `bisnesctl.bots.ownership`.)

plan       the order in which bots move, and the steps: pure functions
state      one rollout, as the table `rollout` has it
decision   the next action of a rollout: a pure function of its state, of what was observed, and of the time
driver     observes, decides and acts, one process at a time
figures    measures both sides since the step began
verdict    compares both sides' figures: pass, fail or hold
"""
