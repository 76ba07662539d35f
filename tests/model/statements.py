"""PartiQL statements on one item, written from the same trees as the expressions."""

from __future__ import annotations

from typing import Any

from tests.model.expressions import Path, Tree
from tests.model.values import Item, Value


def insert(table: str, item: Item) -> dict[str, Any]:
    members = ", ".join(f"'{name}': ?" for name in item)
    return _request(f'INSERT INTO "{table}" VALUE {{{members}}}', list(item.values()))


def select(table: str, key: Item, projection: tuple[Path, ...] | None) -> dict[str, Any]:
    """Strongly consistent."""
    shown = "*" if projection is None else ", ".join(map(_path, projection))
    where, values = _where(key, None)
    return {**_request(f'SELECT {shown} FROM "{table}" WHERE {where}', values), "ConsistentRead": True}


def update(table: str, key: Item, changes: tuple[Tree, ...], condition: Tree | None, returning: str) -> dict[str, Any]:
    """`changes` are sets of values, and removals."""
    text = f'UPDATE "{table}"'
    values: list[Value] = []
    for change in changes:
        if change[0] == "set":
            text += f" SET {_path(change[1])} = ?"
            values.append(change[2][1])
        else:
            text += f" REMOVE {_path(change[1])}"
    where, compared = _where(key, condition)
    return _request(f"{text} WHERE {where}{_returning(returning)}", [*values, *compared])


def delete(table: str, key: Item, condition: Tree | None, returning: str) -> dict[str, Any]:
    where, values = _where(key, condition)
    return _request(f'DELETE FROM "{table}" WHERE {where}{_returning(returning)}', values)


def _request(text: str, values: list[Value]) -> dict[str, Any]:
    return {"Statement": text, **({"Parameters": values} if values else {})}


def _where(key: Item, condition: Tree | None) -> tuple[str, list[Value]]:
    """The whole key and, at most, one comparison of an attribute with a value."""
    terms = [f'"{name}" = ?' for name in key]
    values = list(key.values())
    if condition is not None:
        terms.append(f"{_path(condition[1][1])} {condition[0]} ?")
        values.append(condition[2][1])
    return " AND ".join(terms), values


def _returning(what: str) -> str:
    return "" if what == "NONE" else f" RETURNING {what.replace('_', ' ')} *"


def _path(path: Path) -> str:
    text = f'"{path[0]}"'
    for step in path[1:]:
        text += f"[{step}]" if isinstance(step, int) else f'."{step}"'
    return text
