"""`bisnesctl queue`: the messages that wait to be sent. Each file is one or two of its commands."""

from bisnesctl.cli.queue import cancel, drain, list_messages, pause, retry, stats

__all__ = ["cancel", "drain", "list_messages", "pause", "retry", "stats"]
