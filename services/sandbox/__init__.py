"""A simulator of Meta's Graph API that anyone can look into: `bisnesctl start --multiprocess --sandbox`.

`graph` knows the API's rules, `behaviour` what it was told to do differently, `store` what came and what is still to be
reported, `webhooks` reports it, `simulator` joins them, `app` has the addresses, `page` the one for people.
"""
