"""What knows nothing of distillation: text, secrets, random streams, hardware, processes."""
