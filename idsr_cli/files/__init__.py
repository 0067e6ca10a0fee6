"""Files in and out: what to process (plan), pictures (image), safe writes (atomic) and the runner (batch)."""
