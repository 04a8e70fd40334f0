"""From units to weights: values in, values out, never logs."""
