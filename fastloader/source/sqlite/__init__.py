"""The source for SQLite."""
