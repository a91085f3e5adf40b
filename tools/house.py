"""Print the import graph of fastloader in figures: ``python tools/house.py [FOLDER ...]``.

A folder is a checkout, of this version or an older one; the default is this one. Every import
counts: those inside functions and those for type checkers too.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import grimp

Graph = dict[str, set[str]]
"""Of each node the nodes that it imports."""

ROOT = "fastloader"


def modules_of(folder: Path) -> Graph:
    """Return the modules of the package in this checkout and what each of them imports."""
    sys.path.insert(0, str(folder))
    try:
        graph = grimp.build_graph(ROOT, cache_dir=None)
    finally:
        sys.path.remove(str(folder))
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def rooms_of(modules: Graph) -> Graph:
    """Return the modules and packages right under the root and what each of them imports."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    rooms: Graph = {room(module): set() for module in modules}
    for module, imported in modules.items():
        rooms[room(module)] |= {room(name) for name in imported} - {room(module)}
    return rooms


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that import each other, directly or not."""

    @cache
    def reached(node: str) -> frozenset[str]:
        seen: set[str] = set()
        todo = [*graph[node]]
        while todo:
            if (following := todo.pop()) not in seen:
                seen.add(following)
                todo += graph[following]
        return frozenset(seen)

    found = {frozenset(n for n in reached(node) if node in reached(n)) for node in graph}
    return sorted((set(circle) for circle in found if circle), key=sorted)


def levels(graph: Graph) -> int:
    """Return the number of nodes on the longest way down. A circle counts as one node."""
    circle_of = {node: min(circle) for circle in circles(graph) for node in circle}

    def one(node: str) -> str:
        return circle_of.get(node, node)

    down: Graph = {}
    for node, imported in graph.items():
        down.setdefault(one(node), set()).update({one(name) for name in imported} - {one(node)})

    @cache
    def height(node: str) -> int:
        return 1 + max(map(height, down[node]), default=0)

    return max(map(height, down))


def figures(folder: Path) -> dict[str, int]:
    """Return what the command prints about a checkout."""
    modules = modules_of(folder)
    rooms = rooms_of(modules)
    at_root = [path for path in (folder / ROOT).glob("*.py") if not path.name.startswith("__")]
    return {
        "modules": len(modules),
        "modules at the root": len(at_root),
        "import arrows between modules": sum(map(len, modules.values())),
        "levels of modules": levels(modules),
        "circles of modules": len(circles(modules)),
        "rooms": len(rooms) - 1,  # without the root itself
        "import arrows between rooms": sum(map(len, rooms.values())),
        "levels of rooms": levels(rooms),
        "circles of rooms": len(circles(rooms)),
    }


def main(folders: list[str]) -> None:
    """Print a column of figures for each folder."""
    paths = [Path(folder).resolve() for folder in folders or [str(Path(__file__).parents[1])]]
    found = [figures(path) for path in paths]
    for name in found[0]:
        print(f"{name:32}", *(f"{column[name]:6}" for column in found))
    for path in paths:
        for circle in circles(modules_of(path)):
            print(f"circle in {path.name}: {', '.join(sorted(circle))}")


if __name__ == "__main__":
    main(sys.argv[1:])
