"""`bisnesctl bots`: the bots, each a company's phone number on one channel. Each file is one or two of its commands."""

from bisnesctl.cli.bots import add, block, limit, link, list_bots, move, remove, rotate_secret, verify

__all__ = ["add", "block", "limit", "link", "list_bots", "move", "remove", "rotate_secret", "verify"]
