"""How a framework takes batches. No module here is imported before somebody wants its framework."""
