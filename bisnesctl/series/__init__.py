"""Figures over time, for plots: values of each minute in `process_metrics`, beside those that heartbeats store there.

`recorder` stores what the evaluator of alerts measured, `reading` reads all of them for a span of time.
"""
