"""Parts of an item: what a projection or a list of touched paths selects.

Nested parts keep their place in maps; elements of a list are compacted in index order, whatever the order in which
they were asked for. What is absent is left out, and so is a container of which nothing was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from geodyne.expressions.tree import Projection, ResolvedPath, resolved
from geodyne.messages import AttributeValue, Item

# What is wanted below a point: None everything, else by element.
_Wanted = dict[Any, Any] | None


def project(tree: Projection, item: Item, names: Mapping[str, str]) -> Item:
    """The part of an item that a checked projection names."""
    return select(item, (resolved(path, names) for path in tree.paths))


def projected_attributes(tree: Projection, names: Mapping[str, str]) -> list[str]:
    """The top-level attributes that a projection names."""
    return [str(resolved(path, names)[0]) for path in tree.paths]


def select(item: Item, paths: Iterable[ResolvedPath]) -> Item:
    """The part of an item that lies at the given paths, none of which begins with another."""
    wanted: dict[Any, Any] = {}
    for path in paths:
        below = wanted
        for element in path[:-1]:
            below = below.setdefault(element, {})
        below[path[-1]] = None
    return _from_map(item, wanted)


def _from_map(content: Item, wanted: dict[Any, Any]) -> Item:
    result: Item = {}
    for name, below in wanted.items():
        value = content.get(name)
        if value is not None:
            part = value if below is None else _part(value, below)
            if part is not None:
                result[name] = part
    return result


def _part(value: AttributeValue, wanted: dict[Any, Any]) -> AttributeValue | None:
    if "M" in value:
        attributes = _from_map(value["M"], wanted)
        return {"M": attributes} if attributes else None
    if "L" in value:
        content = value["L"]
        elements = []
        for index in sorted(element for element in wanted if isinstance(element, int)):
            if index < len(content):
                below: _Wanted = wanted[index]
                part = content[index] if below is None else _part(content[index], below)
                if part is not None:
                    elements.append(part)
        return {"L": elements} if elements else None
    return None
