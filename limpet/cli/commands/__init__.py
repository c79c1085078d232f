"""The commands, one module each, found as limpet.cli.commands.NAME."""
