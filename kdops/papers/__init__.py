"""What published papers say about distillation; one file a paper."""
