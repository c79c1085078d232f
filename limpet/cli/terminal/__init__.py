"""What every command shares on the way out: output, progress, style, safe texts."""
