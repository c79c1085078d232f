"""Tables, plots and four writers: terminal, Markdown, HTML and CSV."""
