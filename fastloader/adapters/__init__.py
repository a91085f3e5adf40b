"""How frameworks take batches.

Each module imports its framework inside the function that needs it, or at its top if its classes
are the framework's. No module here is imported before somebody wants its framework.
"""
