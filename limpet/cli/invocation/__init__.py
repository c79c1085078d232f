"""What every command shares on the way in: the call, its global options, confirmation, exit codes."""
