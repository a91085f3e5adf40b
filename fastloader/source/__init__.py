"""Where rows come from: one protocol, and one package for each kind of database."""
