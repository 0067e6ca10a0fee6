"""What a process computes on: device and precision, threads, and how freed memory is kept."""
