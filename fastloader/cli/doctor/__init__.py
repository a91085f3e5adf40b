"""``fastloader doctor``: whether the machine, the installation and a database are in order."""
