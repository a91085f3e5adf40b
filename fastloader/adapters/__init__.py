"""How a framework takes batches. Each module imports its framework inside the function that needs
it."""
