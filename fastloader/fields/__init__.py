"""What a batch holds, and how the values of a database column become part of it."""
