"""Training: setup of a run, batches, objectives and losses, the loop, validation."""
