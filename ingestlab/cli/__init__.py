"""The command line."""

from ingestlab.cli.commands import GROUPS, app, main

__all__ = ["GROUPS", "app", "main"]
