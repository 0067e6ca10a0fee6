"""A run over many inputs: its files (plan), the order and memory of the work (batch), records of settings (stamps)."""
