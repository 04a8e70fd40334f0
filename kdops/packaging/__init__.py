"""A model as files: written, loaded, served, exported."""
