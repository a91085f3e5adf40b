"""What two processes of a loader share: the ring, the pipe and the messages on it."""
