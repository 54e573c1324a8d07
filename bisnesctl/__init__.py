"""The operator's tool: configures, starts, watches and stops the processes of a business's chat bots."""

__version__ = "0.1.0"
