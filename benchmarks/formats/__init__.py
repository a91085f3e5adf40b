"""The case ``formats``: fastloader against loaders that read formats of their own.

``sets`` makes the photographs, the same bytes for all. ``environments`` installs each peer into an
environment of its own. The scripts in ``peers/`` run there, where fastloader cannot be imported:
each writes its format and reads it. ``ours`` reads the table. ``__main__`` runs all of them.
"""
