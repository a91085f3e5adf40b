"""Functions of the user that run in the workers: what they are, how they travel, what they draw."""
