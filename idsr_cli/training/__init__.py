"""Training: rain, batches, losses, the loop, validation."""
