"""Where images come from, and which of them each model may see."""
