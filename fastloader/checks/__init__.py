"""Options of loaders and of fields: how one is declared, and how its values are checked."""
