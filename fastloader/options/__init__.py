"""The options of a loader: their table, their checks and the environment variables."""
