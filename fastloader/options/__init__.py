"""The options of a loader: their defaults, their checks and the environment variables."""
