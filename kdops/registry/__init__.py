"""Registered versions: names, champion, cards, promotion."""
