"""What a report says and what it concludes; nothing here draws."""
