"""What a company is told of its messages and numbers, by webhooks and by a stream.

The events stand in PostgreSQL (`raise_events` writes them in the transaction of what caused them). `sender` delivers
them, with the SQL of `store` and the headers of `signing`; `registry` knows the webhooks, `feed` what a stream reads.
"""
