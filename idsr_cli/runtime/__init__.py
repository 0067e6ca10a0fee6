"""Settings and engines that networks run with: device, precision, threads, memory allocator, runners."""
