"""Training of a network on a fold; loading the result and predicting with it."""
