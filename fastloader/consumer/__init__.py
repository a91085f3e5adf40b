"""The training process: it starts the workers, takes their batches and hands them out."""
