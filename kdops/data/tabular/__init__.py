"""Tables of rows as data."""
