"""The MLflow store made dependable: opened once, faults in words, locks, liveness."""
