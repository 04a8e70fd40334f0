"""Networks: built and inspected."""
