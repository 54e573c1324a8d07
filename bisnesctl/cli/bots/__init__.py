"""`bisnesctl bots`: the bots, each a company's phone number on one channel. Each file is one or two of its commands."""

from bisnesctl.cli.bots import add, block, limit, link, list_bots, remove, verify

__all__ = ["add", "block", "limit", "link", "list_bots", "remove", "verify"]
