"""Sequences of steps from a seed: few keys, so that steps meet; values at the edges of what the service takes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from tests.model import steps as s
from tests.model.expressions import Path, Tree
from tests.model.schema import BINARY, INDEXED, KEY_TYPES, PLAIN, SORTED, TABLES, Table
from tests.model.values import Item, Value

TEXTS = ("", "a", "A", "ab", "b", "é", "z\U0001f30d", "0")
KEY_TEXTS = ("k", "k", "k", "K", "é")  # most in one item collection
NUMBERS = (
    "0", "-0", "1", "1.0", "-1", "0.1", "1e1", "10", "9", "-1.50", "123456789012345678901234567890.12345678",
    "99999999999999999999999999999999999999", "1E-130", "-1E-130", "9.9999999999999999999999999999999999999E+125",
)  # fmt: skip
SORT_NUMBERS = ("0", "1", "-1", "1.5", "10", "2", "-10", "1E-130", "99999999999999999999999999999999999999")
SMALL_NUMBERS = ("1", "-2", "0.5", "10", "-0")
BYTES = ("", "AA==", "AAA=", "/w==", "YWI=", "YQ==")
KEY_BYTES = ("AA==", "AAA=", "/w==", "YQ==")
BULKS = (0, 0, 0, 300, 1_300, 4_500)  # bytes of filling, away from the steps of the capacity rules
PROJECTIONS: tuple[tuple[Path, ...], ...] = (
    (("a",),), (("b",), ("n",)), (("m", "x"),), (("l", 1), ("pk",)), (("m", "list", 0), ("none",)), (("ss",), ("a",)),
)  # fmt: skip
LEGACY_NAMES = ("a", "n", "b", "c", "l", "ss")
INVALID_VALUES: tuple[Value, ...] = ({"N": "1e126"}, {"N": "1" * 39}, {"SS": []}, {"NS": ["1", "1.0"]})


class Family(NamedTuple):
    """A kind of sequence: the tables that it uses and how often it takes which step."""

    tables: tuple[Table, ...]
    weights: dict[str, int]


_ITEMS = {"put": 8, "update": 8, "delete": 3, "get": 3, "query": 4, "scan": 1, "batch_write": 2, "batch_get": 1}
FAMILIES = {
    "items": Family((PLAIN, SORTED, BINARY), _ITEMS),
    "indexes": Family((INDEXED,), {**_ITEMS, "query": 10, "batch_get": 0}),
    "statements": Family((PLAIN, SORTED, BINARY), {"put": 2, "statement": 10, "get": 1}),
    "transactions": Family((PLAIN, SORTED), {**_ITEMS, "transact_write": 10, "transact_get": 4, "scan": 0}),
}


def sequence(seed: int, family: str, length: int) -> list[s.Step]:
    """The same for the same arguments."""
    return _Generator(Random(f"{family}/{seed}"), FAMILIES[family]).sequence(length)


class _Generator:
    def __init__(self, random: Random, family: Family) -> None:
        self._random = random
        self._family = family
        self._table = family.tables[0]

    def sequence(self, length: int) -> list[s.Step]:
        kinds = self._random.choices(list(self._family.weights), list(self._family.weights.values()), k=length)
        return [self._step(kind) for kind in kinds]

    def _step(self, kind: str) -> s.Step:
        self._table = self._random.choice(self._family.tables)
        make: Callable[[], s.Step] = getattr(self, f"_{kind}")
        step = make()
        return self._in_legacy_form(step) if self._chance(4) else step

    def _in_legacy_form(self, step: s.Step) -> s.Step:
        """The step with what only expressions can say replaced; a step that has no such form stays as it is."""
        if isinstance(step, s.Put | s.Update | s.Delete):
            if isinstance(step, s.Update):
                step = step._replace(changes=self._legacy_changes())
            condition = None if step.condition is None else self._legacy_condition(LEGACY_NAMES)
            return step._replace(condition=condition, show_failed=False, legacy=True)
        if isinstance(step, s.Get | s.Query | s.Scan):
            step = step._replace(projection=None if step.projection is None else (("a",), ("b",)), legacy=True)
        if isinstance(step, s.Query | s.Scan) and step.filter is not None:
            keys = s.keys_of(step) if isinstance(step, s.Query) else ()
            local = isinstance(step, s.Query) and step.index_name is not None
            names = ("b",) if local else tuple(name for name in LEGACY_NAMES if name not in keys)
            step = step._replace(filter=self._legacy_condition(names))
        return step

    def _legacy_condition(self, names: tuple[str, ...]) -> Tree:
        chosen = self._random.sample(names, min(len(names), self._random.randint(1, 3)))
        terms = [self._legacy_term((name,)) for name in chosen]
        return terms[0] if len(terms) == 1 else (self._random.choice(("and", "or")), *terms)

    def _legacy_term(self, path: Path) -> Tree:
        kind = self._random.randrange(8)
        value, other = self._operand_for(path, True), self._operand_for(path, True)
        if kind < 3:
            return (self._random.choice(("=", "<>", "<", "<=", ">", ">=")), ("path", path), ("value", value))
        if kind == 3:
            return (self._random.choice(("exists", "not_exists")), path)
        if kind == 4:
            return ("between", ("path", path), ("value", value), ("value", other))
        if kind == 5:
            kind_of = next(iter(value))
            same = other if next(iter(other)) == kind_of else value
            return ("in", ("path", path), (("value", value), ("value", same))[: 1 if same == value else 2])
        if kind == 6:
            return ("begins", path, self._random.choice(({"S": "a"}, {"B": "YQ=="}, {"S": "é"})))
        return ("contains", path, self._random.choice(({"S": "a"}, {"N": "1"}, {"B": "YQ=="})))

    def _legacy_changes(self) -> tuple[Tree, ...]:
        made: list[Tree] = [
            ("remove", ("g",)),
            ("add", ("c",), {"N": self._random.choice(SMALL_NUMBERS)}),
            (self._random.choice(("add", "delete")), ("ss",), self._random.choice(({"SS": ["a"]}, {"NS": ["1"]}))),
            ("remove", ("l",)),
        ]
        put: Tree = ("set", ("b",), ("value", self._value()))
        return tuple(self._random.sample([put, *made], self._random.randint(1, 3)))

    def _chance(self, one_in: int) -> bool:
        return self._random.randrange(one_in) == 0

    # --- values -----------------------------------------------------------------------------------------------

    def _scalar(self) -> Value:
        kind = self._random.choice(("S", "S", "N", "N", "B", "BOOL", "NULL"))
        if kind in ("BOOL", "NULL"):
            return {kind: True if kind == "NULL" else self._chance(2)}
        return {kind: self._random.choice({"S": TEXTS, "N": NUMBERS, "B": BYTES}[kind])}

    def _set(self) -> Value:
        kind = self._random.choice(("SS", "NS", "BS"))
        of = {"SS": ("", "a", "b", "é"), "NS": ("-0", "1", "2.50", "1E-130"), "BS": ("AA==", "/w==", "YQ==")}[kind]
        return {kind: self._random.sample(of, self._random.randint(1, 3))}

    def _value(self, depth: int = 2) -> Value:
        kind = self._random.randrange(6 if depth else 4)
        if kind < 3:
            return self._scalar()
        if kind == 3:
            return self._set()
        if kind == 4:
            return {"L": [self._value(depth - 1) for _ in range(self._random.randrange(3))]}
        names = self._random.sample(("x", "list", "é"), self._random.randrange(3))
        return {"M": {name: self._value(depth - 1) for name in names}}

    def _key(self) -> Item:
        """A key of the current table, now and then one that is refused."""
        if self._chance(60):
            return self._random.choice(({"pk": {"S": ""}}, {}, {"pk": {"N": "1"}}))
        of = {"S": KEY_TEXTS, "N": SORT_NUMBERS, "B": KEY_BYTES}
        return {name: {kind: self._random.choice(of[kind])} for name, kind in self._table.types.items()}

    def _valid_key(self) -> Item:
        while set(key := self._key()) != set(self._table.keys):
            pass
        return key if next(iter(key["pk"].values())) != "" and "N" not in key["pk"] else self._valid_key()

    def _item(self, key: Item, valid: bool = False) -> Item:
        indexed = bool(self._table.indexes)
        of: dict[str, Callable[[], Value]] = {
            "a": lambda: {"S": self._random.choice(TEXTS[1:4] if indexed else TEXTS)},
            "n": lambda: {"N": self._random.choice(NUMBERS)},
            "g": lambda: {"S": self._random.choice(("x", "y"))},
            "b": self._value,
            "c": lambda: {"N": self._random.choice(SMALL_NUMBERS)},
            "m": lambda: {"M": {"x": self._value(1), "list": {"L": [self._scalar(), self._scalar()]}}},
            "l": lambda: {"L": [self._value(1) for _ in range(self._random.randrange(4))]},
            "ss": lambda: {"SS": self._random.sample(("a", "b", "c"), 2)},
        }
        names = self._random.sample(list(of), self._random.randint(1, len(of)))
        item = {**key, **{name: of[name]() for name in names}}
        bulk = self._random.choice(BULKS)
        if bulk:
            item["bulk"] = {"S": "x" * bulk}
        if not valid and self._chance(40):
            item[self._random.choice(("a", "n", "g", "b"))] = self._random.choice((*INVALID_VALUES, {"BOOL": True}))
        return item

    # --- expressions ------------------------------------------------------------------------------------------

    def _condition(self, names: tuple[str, ...], depth: int = 2) -> Tree:
        kind = self._random.randrange(12 if depth else 9)
        path: Path = (self._random.choice(names),)
        if path[0] == "m":
            path = self._random.choice((path, ("m", "x"), ("m", "list", 0)))
        if kind < 3:
            operator = self._random.choice(("=", "<>", "<", "<=", ">", ">="))
            return (operator, ("path", path), ("value", self._operand_for(path, operator not in ("=", "<>"))))
        if kind == 3 and len(names) > 1 and len(path) == 1 and self._chance(2):
            other = self._random.choice([name for name in names if name != path[0]])
            return (self._random.choice(("=", "<", ">=")), ("path", path), ("path", (other,)))
        if kind == 3:
            return (self._random.choice(("exists", "not_exists")), path)
        if kind == 4:
            low, high = self._operand_for(path, True), self._operand_for(path, True)
            return ("between", ("path", path), ("value", low), ("value", high))
        if kind == 5:
            values = tuple(("value", self._operand_for(path, False)) for _ in range(self._random.randint(1, 3)))
            return ("in", ("path", path), values)
        if kind == 6:
            return ("begins", path, self._random.choice(({"S": "a"}, {"S": ""}, {"B": "YQ=="}, {"S": "é"})))
        if kind == 7:
            return ("contains", path, self._random.choice(({"S": "a"}, {"N": "1"}, {"B": "YQ=="}, {"NULL": True})))
        if kind == 8:
            sized = self._random.choice(("l", "m", "ss"))
            if sized in names and self._chance(2):
                return (self._random.choice((">", "=", "<=")), ("size", (sized,)), ("value", {"N": "2"}))
            return ("type", path, self._random.choice(("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M")))
        if kind == 9:
            return ("not", self._condition(names, depth - 1))
        both = self._condition(names, depth - 1), self._condition(names, depth - 1)
        return (("and", "or")[kind - 10], *both)

    def _operand_for(self, path: Path, ordered: bool) -> Value:
        """A value that the attribute may well have."""
        likely = {"a": ("S", TEXTS), "n": ("N", NUMBERS), "c": ("N", SMALL_NUMBERS), "g": ("S", ("x", "y"))}
        if path[0] in likely and not self._chance(8):
            kind, values = likely[path[0]]
            return {kind: self._random.choice(values)}
        value = self._scalar() if ordered else self._value(1)
        while ordered and next(iter(value)) not in ("S", "N", "B"):
            value = self._scalar()
        return value

    def _guard(self) -> Tree | None:
        names = ("a", "n", "b", "c", "m", "l", "ss", "pk")
        return self._condition(names) if self._chance(3) else None

    def _changes(self) -> tuple[Tree, ...]:
        """Of different attributes, so that none is in another's way."""
        made: dict[str, Callable[[], Tree]] = {
            "a": lambda: ("set", ("a",), ("value", {"S": self._random.choice(TEXTS[1:])})),
            "n": lambda: ("set", ("n",), ("if_not_exists", ("n",), ("value", {"N": self._random.choice(NUMBERS)}))),
            "g": lambda: self._random.choice(
                (("remove", ("g",)), ("set", ("g",), ("value", {"S": "y"})), ("set", ("g",), ("path", ("b",))))
            ),
            "b": lambda: self._random.choice(
                (("set", ("b",), ("value", self._value())), ("remove", ("b",)), ("set", ("b",), ("path", ("a",))))
            ),
            "c": self._counting,
            "m": lambda: self._random.choice(
                (
                    ("set", ("m", "x"), ("value", self._value(1))),
                    ("remove", ("m", "x")),
                    ("set", ("m", "list", self._random.randrange(5)), ("value", self._scalar())),
                    ("remove", ("m", "list", 0)),
                    ("set", ("m",), ("value", {"M": {}})),
                )
            ),
            "l": lambda: self._random.choice(
                (
                    ("set", ("l",), ("list_append", self._list(), ("value", {"L": [self._scalar()]}))),
                    ("set", ("l",), ("list_append", ("value", {"L": [self._scalar()]}), self._list())),
                    ("remove", ("l", self._random.randrange(3))),
                    ("set", ("l", self._random.randrange(4)), ("value", self._value(1))),
                )
            ),
            "ss": lambda: (
                self._random.choice(("add", "delete")),
                ("ss",),
                self._random.choice(({"SS": ["a"]}, {"SS": ["b", "d"]}, {"NS": ["1"]})),
            ),
        }
        names = self._random.sample(list(made), self._random.randint(0, 3))
        return tuple(made[name]() for name in names)

    def _list(self) -> Tree:
        return ("path", ("l",)) if self._chance(3) else ("if_not_exists", ("l",), ("value", {"L": []}))

    def _counting(self) -> Tree:
        step = ("value", {"N": self._random.choice(SMALL_NUMBERS)})
        if self._chance(2):
            return ("add", ("c",), step[1])
        start = ("if_not_exists", ("c",), ("value", {"N": "0"})) if self._chance(2) else ("path", ("c",))
        return ("set", ("c",), (self._random.choice(("plus", "minus")), start, step))

    def _projection(self) -> tuple[Path, ...] | None:
        return self._random.choice(PROJECTIONS) if self._chance(3) else None

    # --- steps ------------------------------------------------------------------------------------------------

    def _put(self) -> s.Put:
        item = self._item(self._key())
        returns = self._random.choice(("NONE", "ALL_OLD"))
        return s.Put(self._table.name, item, self._guard(), returns, self._chance(2))

    def _update(self) -> s.Update:
        changes = self._changes()
        whole = not any(isinstance(step, int) for change in changes for step in change[1])
        kinds = ("NONE", "ALL_OLD", "ALL_NEW", *(("UPDATED_OLD", "UPDATED_NEW") if whole and changes else ()))
        key, returns = self._key(), self._random.choice(kinds)
        return s.Update(self._table.name, key, changes, self._guard(), returns, self._chance(2))

    def _delete(self) -> s.Delete:
        returns = self._random.choice(("NONE", "ALL_OLD"))
        return s.Delete(self._table.name, self._key(), self._guard(), returns, self._chance(2))

    def _get(self) -> s.Get:
        return s.Get(self._table.name, self._key(), self._projection())

    def _query(self) -> s.Query:
        index = self._random.choice((None, *self._table.indexes)) if self._table.indexes else None
        keys = self._table.keys if index is None else index.keys
        step = s.Query(self._table.name, index.name if index else None, self._key_value(keys[0]))
        equal = index.partition_keys - 1 if index else 0
        equal += len(keys) > equal + 2 and self._chance(2)
        more = tuple(self._key_value(name) for name in keys[1 : 1 + equal])
        ranged = len(keys) > 1 + equal and self._chance(2)
        sort = self._sort(self._type_of(keys[1 + equal])) if ranged else None
        held = None if index is None else index.projected
        filtered = ("a", "n", "b", "c", "m", "l", "ss") if held is None else held
        filtered = tuple(name for name in filtered if name not in keys)
        condition = self._condition(filtered) if filtered and self._chance(3) else None
        select = self._random.choice((None, None, None, "COUNT"))
        projection = self._projection() if select is None else None
        if select is None and projection is None and self._chance(4):
            select = "ALL_ATTRIBUTES"
        step = step._replace(more=more, sort=sort, filter=condition, projection=projection, select=select)
        return step._replace(backward=self._chance(2), limit=self._random.choice((0, 0, 1, 2, 3)))

    def _type_of(self, name: str) -> str:
        return self._table.types.get(name) or KEY_TYPES[name]

    def _key_value(self, name: str) -> Value:
        kind = self._type_of(name)
        likely: dict[str, tuple[str, ...]] = {"g": ("x", "y"), "a": TEXTS[1:], "c": SMALL_NUMBERS, "n": NUMBERS}
        values = likely.get(name) or {"S": KEY_TEXTS, "N": SORT_NUMBERS, "B": KEY_BYTES}[kind]
        return {kind: self._random.choice(values)}

    def _sort(self, kind: str) -> tuple[Any, ...]:
        values = {"S": TEXTS[1:], "N": SORT_NUMBERS, "B": KEY_BYTES}[kind]

        def value() -> Value:
            return {kind: self._random.choice(values)}

        operator = self._random.choice(("=", "<", "<=", ">", ">=", "between", "begins"))
        if operator == "between":
            return (operator, value(), value())
        return ("=" if operator == "begins" and kind == "N" else operator, value())

    def _scan(self) -> s.Scan:
        indexes = [None, *(index.name for index in self._table.indexes)]
        index = self._random.choice(indexes)
        condition = None
        if index is None and self._chance(2):
            condition = self._condition(("a", "n", "b", "c", "m", "l", "ss"))
        limit, segments = self._random.choice((0, 0, 1, 4)), self._random.choice((1, 1, 3))
        return s.Scan(self._table.name, index, condition, None if index else self._projection(), limit, segments)

    def _batch_write(self) -> s.BatchWrite:
        writes: list[s.Put | s.Delete] = []
        for name, key in self._places():
            self._table = TABLES[name]
            put = s.Put(name, self._item(key, valid=True))
            writes.append(s.Delete(name, key) if self._chance(3) else put)
        return s.BatchWrite(tuple(writes))

    def _batch_get(self) -> s.BatchGet:
        return s.BatchGet(tuple(self._places()))

    def _transact_write(self) -> s.TransactWrite:
        writes: list[s.Write] = []
        for name, key in self._places():
            guard, shown, kind = self._guard(), self._chance(2), self._random.randrange(4)
            if kind == 0:
                writes.append(s.Put(name, self._item(key, valid=True), guard, show_failed=shown))
            elif kind == 1:
                changes = self._changes() or (("set", ("a",), ("value", {"S": "t"})),)
                writes.append(s.Update(name, key, changes, guard, show_failed=shown))
            elif kind == 2:
                writes.append(s.Delete(name, key, guard, show_failed=shown))
            else:
                condition = guard or (self._random.choice(("exists", "not_exists")), ("a",))
                writes.append(s.Check(name, key, condition, shown))
        return s.TransactWrite(tuple(writes))

    def _places(self) -> list[tuple[str, Item]]:
        """A few keys of all tables, seldom one twice."""
        places: list[tuple[str, Item]] = []
        for _ in range(self._random.randint(1, 5)):
            self._table = self._random.choice(self._family.tables)
            place = (self._table.name, self._valid_key())
            if place not in places or self._chance(20):
                places.append(place)
        return places

    def _statement(self) -> s.Statement:
        name, key = self._table.name, self._valid_key()
        kind = self._random.randrange(5)
        if kind == 0:
            return s.Statement(s.Put(name, self._item(key)))
        if kind == 1:
            # How a nested path is named in the answer is not documented.
            return s.Statement(s.Get(name, key, self._random.choice((None, (("a",),), (("b",), ("pk",))))))
        condition = None
        if self._chance(2):
            path: Path = (self._random.choice(("a", "n", "b", "c")),)
            operator = self._random.choice(("=", "<>", "<", ">="))
            condition = (operator, ("path", path), ("value", self._operand_for(path, True)))
        if kind == 2:
            return s.Statement(s.Delete(name, key, condition, self._random.choice(("NONE", "ALL_OLD"))))
        changes = [
            ("set", ("a",), ("value", {"S": self._random.choice(TEXTS)})),
            ("set", ("b",), ("value", self._value())),
            ("set", ("m", "x"), ("value", self._value(1))),
            ("remove", ("g",)),
            ("remove", ("l", self._random.randrange(2))),
        ]
        chosen = tuple(self._random.sample(changes, self._random.randint(1, 3)))
        returns = self._random.choice(("NONE", "ALL_OLD", "ALL_NEW"))
        return s.Statement(s.Update(name, key, chosen, condition, returns))

    def _transact_get(self) -> s.TransactGet:
        return s.TransactGet(tuple(s.Get(name, key, self._projection()) for name, key in self._places()))


def tables_of(family: str) -> set[str]:
    """The names of the tables that a family uses."""
    return {table.name for table in FAMILIES[family].tables}
