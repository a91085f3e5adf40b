"""Real servers for the tests and the benchmarks: PostgreSQL clusters, and a proxy that breaks."""
