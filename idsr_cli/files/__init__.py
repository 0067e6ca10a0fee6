"""Files as such: safe writes (atomic), what went wrong with one (faults), and the end by a signal (interruption)."""
