"""A simulator of Meta's Graph API and of 360dialog, open to everybody: `bisnesctl start --multiprocess --sandbox`.

The rules, which keep nothing: `graph` for requests to send, `kinds` for what is in them, `templates`, `management` for
everything else, `inbound` for what customers say. What is kept, in one SQLite file (`database`): `store` for messages
and webhooks, `registry` for what was told, `media` for files. `behaviour` is what it was told to do differently,
`webhooks` delivers to `destinations`, `simulator` joins them all. The addresses are in `graph_routes`, `dialog360` and
`control`, put together by `app`; `page` is the one for people.
"""
