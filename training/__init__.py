"""What learns from a feature store: heads, evaluation, prediction. Imports features, never pipelines."""
