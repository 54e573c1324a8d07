"""The events of a company's messages and numbers, as its webhooks and streams receive them.

`raise_events` writes them in PostgreSQL, in the transaction of their cause. `sender` delivers them to webhooks with the
SQL of `store`; `webhooks` registers the webhooks, and `feed` reads the events for a stream.
"""
