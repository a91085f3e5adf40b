"""A worker process: it reads rows, decodes them and fills the slots of its ring."""
