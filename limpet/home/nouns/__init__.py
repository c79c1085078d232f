"""The nouns of a home: home.base, home.task, home.adapter, ..."""
