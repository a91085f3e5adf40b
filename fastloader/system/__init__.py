"""What the operating system gives a process: cores, memory, descriptors and limits."""
