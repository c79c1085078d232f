"""`limpet adapter VERB`."""

from limpet.cli.commands.adapter.group import command

__all__ = ["command"]
