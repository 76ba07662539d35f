"""Applying an update expression to an item.

Every right-hand side sees the item as it was before. Sections do not depend on each other because their paths do not
overlap; list indexes mean positions in the old list: assignments come first (one beyond the end appends), removals
last, from the back. The input item is never changed; untouched parts are shared with the result.

Source: Developer Guide, "Update expressions"; messages as the service has them.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from geodyne.errors import validation
from geodyne.expressions.evaluate import resolve
from geodyne.expressions.projection import select
from geodyne.expressions.tree import (
    Arithmetic,
    Call,
    Operand,
    Path,
    PathElement,
    ResolvedPath,
    Update,
    Value,
    resolved,
)
from geodyne.limits import NESTING_MAX
from geodyne.messages import AttributeValue, Item, ReturnValues
from geodyne.model.numbers import add, order, subtract
from geodyne.model.values import TOO_DEEP

_Names = Mapping[str, str]
_Values = Mapping[str, AttributeValue]

_NO_ATTRIBUTE = "The provided expression refers to an attribute that does not exist in the item"
_INVALID_PATH = "The document path provided in the update expression is invalid for update"
_WRONG_TYPE = "An operand in the update expression has an incorrect data type"

_SET_TAGS = ("SS", "NS", "BS")


class UpdateResult(NamedTuple):
    """The new item, the paths that the update wrote or removed, and how many of them, the first ones, it wrote.

    The path of an element appended to a list has the index at which it was put.
    """

    item: Item
    touched: tuple[ResolvedPath, ...]
    written: int


def apply_update(tree: Update, item: Item, names: _Names, values: _Values) -> UpdateResult:
    """Apply a checked update to an item (for a new item: its key attributes).

    Raises ApiError (ValidationException) when the item does not have what the update needs.
    """
    writes: list[tuple[ResolvedPath, AttributeValue]] = []
    removals: list[ResolvedPath] = [resolved(path, names) for path in tree.removes]
    for assignment in tree.sets:
        writes.append((resolved(assignment.path, names), _set_value(assignment.value, item, names, values)))
    for accumulation in tree.adds:
        current = resolve(accumulation.path, item, names)
        writes.append((resolved(accumulation.path, names), _added(current, values[accumulation.value.name])))
    for accumulation in tree.deletes:
        left = _deleted(resolve(accumulation.path, item, names), values[accumulation.value.name])
        if left is None:
            removals.append(resolved(accumulation.path, names))
        else:
            writes.append((resolved(accumulation.path, names), left))
    if len(writes) > 1:
        writes.sort(key=_position)  # several elements beyond the end of a list are appended in index order
    target = _Target(item)
    touched = [target.write(path, value) for path, value in writes]
    for path in sorted(removals, key=_position, reverse=True):
        target.remove(path)
    return UpdateResult(target.item, (*touched, *removals), len(touched))


def updated_attributes(result: UpdateResult, before: Item | None, which: ReturnValues) -> Item:
    """The attributes that ReturnValues asks for; empty for NONE, and for old ones of an item that did not exist."""
    if which is ReturnValues.UPDATED_NEW:
        return select(result.item, result.touched[: result.written])
    if which is ReturnValues.ALL_NEW:
        return result.item
    if which is ReturnValues.NONE or before is None:
        return {}
    return before if which is ReturnValues.ALL_OLD else select(before, result.touched)


def _position(write: tuple[Any, ...]) -> tuple[tuple[int, str, int], ...]:
    """Sorts paths, or writes by their path, with list indexes as numbers."""
    path = write[0] if isinstance(write[0], tuple) else write
    return tuple((1, "", element) if isinstance(element, int) else (0, element, 0) for element in path)


# --- right-hand sides ----------------------------------------------------------------------------------------


def _set_value(value: Operand | Arithmetic, item: Item, names: _Names, values: _Values) -> AttributeValue:
    if not isinstance(value, Arithmetic):
        return _operand(value, item, names, values)
    left = _operand(value.left, item, names, values).get("N")
    right = _operand(value.right, item, names, values).get("N")
    if left is None or right is None:
        raise validation(_WRONG_TYPE)
    return {"N": add(left, right) if value.operator == "+" else subtract(left, right)}


def _operand(operand: Operand, item: Item, names: _Names, values: _Values) -> AttributeValue:
    if isinstance(operand, Value):
        return values[operand.name]
    if isinstance(operand, Call):
        first, second = operand.arguments
        if operand.function == "if_not_exists":
            assert isinstance(first, Path)
            current = resolve(first, item, names)
            return _operand(second, item, names, values) if current is None else current
        head = _operand(first, item, names, values).get("L")
        tail = _operand(second, item, names, values).get("L")
        if head is None or tail is None:
            raise validation(_WRONG_TYPE)
        return {"L": [*head, *tail]}
    found = resolve(operand, item, names)
    if found is None:
        raise validation(_NO_ATTRIBUTE)
    return found


def _added(current: AttributeValue | None, addend: AttributeValue) -> AttributeValue:
    """ADD: a number to a number (an absent one is 0), elements to a set (an absent one is empty)."""
    if current is None:
        return addend
    if "N" in addend and "N" in current:
        return {"N": add(current["N"], addend["N"])}
    tag = _common_set(current, addend)
    present = set(current[tag])
    return _sorted_set(tag, current[tag] + [element for element in addend[tag] if element not in present])


def _deleted(current: AttributeValue | None, operand: AttributeValue) -> AttributeValue | None:
    """DELETE: what is left of a set; None when it is absent or becomes empty, for an empty set is never stored."""
    if current is None:
        return None
    tag = _common_set(current, operand)
    gone = set(operand[tag])
    kept = [element for element in current[tag] if element not in gone]
    return {tag: kept} if kept else None


def _common_set(current: AttributeValue, operand: AttributeValue) -> str:
    for tag in _SET_TAGS:
        if tag in operand and tag in current:
            return tag
    raise validation(_WRONG_TYPE)


def _sorted_set(tag: str, elements: list[str]) -> AttributeValue:
    if tag == "SS":
        return {tag: sorted(elements)}
    if tag == "NS":
        return {tag: sorted(elements, key=order)}
    return {tag: sorted(elements, key=a2b_base64)}


# --- the new item --------------------------------------------------------------------------------------------


class _Target:
    """The item under construction. Containers on the way to a change are copied once, the rest is shared."""

    def __init__(self, item: Item) -> None:
        self.item: Item = dict(item)
        self._copied: set[ResolvedPath] = set()

    def write(self, path: ResolvedPath, value: AttributeValue) -> ResolvedPath:
        """Set the value at a path; returns the path that it has then."""
        leaf = path[-1]
        if len(path) > 1 and len(path) - 1 + _levels(value) > NESTING_MAX:
            raise validation(TOO_DEEP)
        container = self._container(path)
        if isinstance(leaf, int) and leaf >= len(container):
            container.append(value)
            return (*path[:-1], len(container) - 1)
        container[leaf] = value
        return path

    def remove(self, path: ResolvedPath) -> None:
        container = self._container(path)
        leaf = path[-1]
        if isinstance(leaf, int):
            if leaf < len(container):
                del container[leaf]
        else:
            container.pop(leaf, None)

    def _container(self, path: ResolvedPath) -> Any:
        """The map or list that holds the last element of a path, copied."""
        container: Any = self.item
        for depth in range(1, len(path)):
            tag = "L" if isinstance(path[depth], int) else "M"
            value = _child(container, path[depth - 1])
            if value is None or tag not in value:
                raise validation(_INVALID_PATH)
            prefix = path[:depth]
            if prefix in self._copied:
                container = value[tag]
                continue
            self._copied.add(prefix)
            copy = list(value[tag]) if tag == "L" else dict(value[tag])
            container[path[depth - 1]] = {tag: copy}
            container = copy
        return container


def _child(container: Any, element: PathElement) -> AttributeValue | None:
    if isinstance(element, int):
        return container[element] if element < len(container) else None
    value: AttributeValue | None = container.get(element)
    return value


def _levels(value: AttributeValue) -> int:
    """How many levels of values there are, the value itself included."""
    for tag, content in value.items():
        if tag == "L":
            return 1 + max(map(_levels, content), default=0)
        if tag == "M":
            return 1 + max(map(_levels, content.values()), default=0)
    return 1
