"""Figures, tables and reports; reads the store."""
