"""Training of one network on one fold, and what is done with the result: loading it and predicting."""
