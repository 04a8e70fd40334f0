"""Which models vote, how well, and what it costs."""
