"""How Beam spreads the work: survey, plan, and one shard per work unit. Imports features, never training."""
