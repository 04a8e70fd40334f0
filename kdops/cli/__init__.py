"""Commands, and the MLflow project behind them."""
