"""Files: complete writes (atomic), errors in plain words (faults), and signals while writing (interruption)."""
