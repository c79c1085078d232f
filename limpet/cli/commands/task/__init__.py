"""`limpet task`, a file for each concern."""

from limpet.cli.commands.task.group import command

__all__ = ["command"]
