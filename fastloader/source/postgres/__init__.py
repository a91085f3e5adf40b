"""The source for PostgreSQL."""
