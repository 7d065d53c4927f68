"""Checks of what other programs read of a run: TensorBoard and MLflow."""
