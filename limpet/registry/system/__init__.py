"""What the registry asks of the machine: files, the clock, who acts, and where a process may be made to die."""
