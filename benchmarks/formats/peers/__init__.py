"""Scripts that run in the environments of the peers. They import ``shared``, not this package."""
