"""Text in, checked frozen values out; imports neither PyTorch nor MLflow."""
