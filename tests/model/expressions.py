"""Conditions, projections and updates as small trees: what they mean, and how they are written in a request.

A tree is nested tuples. Nothing is parsed here: the meaning comes from the tree, the text is only for the service.

operands    ("value", v) ("path", p) ("size", p)
conditions  (op, a, b) with = <> < <= > >=; ("between", a, low, high) ("in", a, (b, ...)) ("exists", p)
            ("not_exists", p) ("type", p, name) ("begins", p, v) ("contains", p, v)
            ("and", c, d) ("or", c, d) ("not", c)
changes     ("set", p, operand) ("remove", p) ("add", p, v) ("delete", p, v); operands of a set also ("plus", a, b)
            ("minus", a, b) ("if_not_exists", p, a) ("list_append", a, b)
paths       (name, name or index, ...)
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from copy import deepcopy
from decimal import Context, Decimal
from typing import Any

from tests.model.values import ORDERED, SETS, Invalid, Item, Value, compare, normal, number_text, order, tag

Path = tuple[Any, ...]
Tree = tuple[Any, ...]
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
_EXACT = Context(prec=400)


def find(item: Item, path: Path) -> Value | None:
    """The value at a path, None when there is none."""
    value: Value | None = item.get(path[0])
    for step in path[1:]:
        if value is None:
            return None
        if isinstance(step, int):
            elements = value.get("L", [])
            value = elements[step] if step < len(elements) else None
        else:
            value = value.get("M", {}).get(step)
    return value


# --- conditions -----------------------------------------------------------------------------------------


def check_condition(condition: Tree) -> None:
    """What is refused without looking at any item. Raises Invalid."""
    kind = condition[0]
    if kind in ("and", "or", "not"):
        for part in condition[1:]:
            check_condition(part)
    elif kind == "between":
        low, high = condition[2][1], condition[3][1]
        if tag(low) != tag(high) or order(normal(low)) > order(normal(high)):
            raise Invalid("bounds of BETWEEN")
    elif kind in ("<", "<=", ">", ">=") and condition[2][0] == "value" and tag(condition[2][1]) not in ORDERED:
        raise Invalid("an operand without an order")
    elif kind == "begins" and tag(condition[2]) not in ("S", "B"):
        raise Invalid("begins_with of neither string nor binary")


def holds(condition: Tree, item: Item) -> bool:
    kind = condition[0]
    if kind == "and":
        return all(holds(part, item) for part in condition[1:])
    if kind == "or":
        return any(holds(part, item) for part in condition[1:])
    if kind == "not":
        return not holds(condition[1], item)
    if kind in ("exists", "not_exists"):
        return bool((find(item, condition[1]) is not None) == (kind == "exists"))
    if kind in ("type", "begins", "contains"):
        value = find(item, condition[1])
        return value is not None and _function(kind, value, condition[2])
    left = operand(condition[1], item)
    if kind in COMPARISONS:
        right = operand(condition[2], item)
        if left is None or right is None:
            return bool(kind == "<>")  # what is not there differs from everything
        return compare(kind, left, right)
    if left is None:
        return False
    if kind == "between":
        return compare(">=", left, normal(condition[2][1])) and compare("<=", left, normal(condition[3][1]))
    return any(left == operand(candidate, item) for candidate in condition[2])


def _function(kind: str, value: Value, argument: Any) -> bool:
    if kind == "type":
        return bool(tag(value) == argument)
    wanted = normal(argument)
    same = tag(value) == tag(wanted)
    if kind == "begins":
        return same and bool(order(value).startswith(order(wanted)))
    if tag(value) in ("S", "B"):
        return same and bool(order(wanted) in order(value))
    if tag(value) in SETS:
        return tag(value)[0] == tag(wanted) and wanted[tag(wanted)] in value[tag(value)]
    return tag(value) == "L" and wanted in value["L"]


def operand(tree: Tree, item: Item) -> Value | None:
    if tree[0] == "value":
        return normal(tree[1])
    value = find(item, tree[1])
    if tree[0] == "path" or value is None:
        return value
    content = value[tag(value)]
    return {"N": str(len(base64.b64decode(content) if tag(value) == "B" else content))}


# --- projections ----------------------------------------------------------------------------------------


def project(item: Item, paths: Sequence[Path] | None) -> Item:
    """What is at the paths, in its place; at most one path leads into each attribute."""
    if paths is None:
        return item
    found = {}
    for path in paths:
        value = find(item, path)
        if value is not None:
            for step in reversed(path[1:]):
                value = {"L": [value]} if isinstance(step, int) else {"M": {step: value}}
            found[path[0]] = value
    return found


# --- updates --------------------------------------------------------------------------------------------


def changed(changes: Sequence[Tree], item: Item) -> Item:
    """The item after the changes, all of which see it as it was. Raises Invalid."""
    result = deepcopy(item)
    for change in changes:
        kind, path = change[0], change[1]
        if kind == "set":
            _put(result, path, assigned(change[2], item))
        elif kind == "remove":
            _remove(result, path)
        else:
            _add_or_delete(result, kind, path[0], normal(change[2]))
    return result


def assigned(tree: Tree, item: Item) -> Value:
    """The value of a SET's right side. Raises Invalid."""
    kind = tree[0]
    if kind == "if_not_exists":
        there = find(item, tree[1])
        return assigned(tree[2], item) if there is None else there
    if kind in ("plus", "minus"):
        one, other = assigned(tree[1], item), assigned(tree[2], item)
        if tag(one) != "N" or tag(other) != "N":
            raise Invalid("arithmetic without numbers")
        return _sum(one, other if kind == "plus" else _negated(other))
    if kind == "list_append":
        lists = [assigned(part, item) for part in tree[1:]]
        if any(tag(part) != "L" for part in lists):
            raise Invalid("list_append without lists")
        return {"L": [*lists[0]["L"], *lists[1]["L"]]}
    value = operand(tree, item)
    if value is None:
        raise Invalid("an attribute that is not there")
    return value


def _sum(one: Value, other: Value) -> Value:
    return {"N": number_text(format(_EXACT.add(Decimal(one["N"]), Decimal(other["N"])), "f"))}


def _negated(value: Value) -> Value:
    return {"N": number_text(format(_EXACT.minus(Decimal(value["N"])), "f"))}


def _parent(item: Item, path: Path) -> Any:
    """The list or the map of names that holds the last step. Raises Invalid when there is none of its kind."""
    parent = find(item, path[:-1])
    inside = None if parent is None else parent.get("L" if isinstance(path[-1], int) else "M")
    if inside is None:
        raise Invalid("a document path that leads nowhere")
    return inside


def _put(item: Item, path: Path, value: Value) -> None:
    if len(path) == 1:
        item[path[0]] = value
        return
    parent = _parent(item, path)
    if isinstance(parent, list) and path[-1] >= len(parent):
        parent.append(value)
    else:
        parent[path[-1]] = value


def _remove(item: Item, path: Path) -> None:
    if len(path) == 1:
        item.pop(path[0], None)
        return
    parent = _parent(item, path)
    if isinstance(parent, list):
        del parent[path[-1] : path[-1] + 1]
    else:
        parent.pop(path[-1], None)


def _add_or_delete(item: Item, kind: str, name: str, value: Value) -> None:
    there = item.get(name)
    if there is None:
        if kind == "add":
            item[name] = value
        return
    if tag(there) != tag(value):
        raise Invalid("ADD or DELETE of another type")
    if kind == "add" and tag(value) == "N":
        item[name] = _sum(there, value)
        return
    old, new = set(there[tag(there)]), set(value[tag(value)])
    left = sorted(old | new if kind == "add" else old - new)
    if left:
        item[name] = {tag(there): left}
    else:
        del item[name]


# --- their text -----------------------------------------------------------------------------------------


class Writer:
    """Writes trees as expressions of one request, with placeholders."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, Value] = {}

    def members(self) -> dict[str, Any]:
        names = {"ExpressionAttributeNames": self.names} if self.names else {}
        return {**names, **({"ExpressionAttributeValues": self.values} if self.values else {})}

    def value(self, value: Value) -> str:
        name = f":v{len(self.values)}"
        self.values[name] = value
        return name

    def path(self, path: Path) -> str:
        text = self._name(path[0])
        for step in path[1:]:
            text += f"[{step}]" if isinstance(step, int) else f".{self._name(step)}"
        return text

    def _name(self, name: str) -> str:
        if len(name) == 1:  # names of one letter are nobody's reserved word
            return name
        self.names[f"#{name}"] = name
        return f"#{name}"

    def operand(self, tree: Tree) -> str:
        kind = tree[0]
        if kind == "value":
            return self.value(tree[1])
        if kind == "path":
            return self.path(tree[1])
        if kind == "size":
            return f"size({self.path(tree[1])})"
        if kind in ("plus", "minus"):
            return f"{self.operand(tree[1])} {'+' if kind == 'plus' else '-'} {self.operand(tree[2])}"
        first = self.path(tree[1]) if kind == "if_not_exists" else self.operand(tree[1])
        return f"{kind}({first}, {self.operand(tree[2])})"

    def condition(self, tree: Tree) -> str:
        kind = tree[0]
        if kind in ("and", "or"):
            return f"({self.condition(tree[1])}) {kind.upper()} ({self.condition(tree[2])})"
        if kind == "not":
            return f"NOT ({self.condition(tree[1])})"
        if kind in ("exists", "not_exists"):
            return f"attribute_{kind}({self.path(tree[1])})"
        if kind == "type":
            return f"attribute_type({self.path(tree[1])}, {self.value({'S': tree[2]})})"
        if kind in ("begins", "contains"):
            return f"{'begins_with' if kind == 'begins' else kind}({self.path(tree[1])}, {self.value(tree[2])})"
        left = self.operand(tree[1])
        if kind == "between":
            return f"{left} BETWEEN {self.operand(tree[2])} AND {self.operand(tree[3])}"
        if kind == "in":
            return f"{left} IN ({', '.join(map(self.operand, tree[2]))})"
        return f"{left} {kind} {self.operand(tree[2])}"

    def projection(self, paths: Sequence[Path]) -> str:
        return ", ".join(map(self.path, paths))

    def update(self, changes: Sequence[Tree]) -> str:
        clauses: dict[str, list[str]] = {}
        for change in changes:
            kind, path = change[0], self.path(change[1])
            if kind == "set":
                text = f"{path} = {self.operand(change[2])}"
            else:
                text = path if kind == "remove" else f"{path} {self.value(change[2])}"
            clauses.setdefault(kind.upper(), []).append(text)
        return " ".join(f"{clause} {', '.join(parts)}" for clause, parts in clauses.items())
