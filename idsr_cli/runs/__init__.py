"""A run over many inputs: what to process (plan), in what order and memory (batch), and what is on record (stamps)."""
