"""Whether a partition takes a client's write, by its table's write mode (geodyne.writemodes). Pure.

The rule is part of the definition that a marker in the partition's log puts in force: a leader that has logged it
takes no write that it forbids, and one that has not can commit none after it. Reads, condition checks of transactions,
changes of other regions and what `geodyne verify` writes anew are not asked.

A refusal is an AccessDeniedException, as AWS's guidance has passive regions denied by IAM: SDKs do not try it again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from geodyne.messages import Refused
from geodyne.model.values import loads
from geodyne.wire import log_v1_pb2 as log
from geodyne.writemodes import Mode, WriteMode

ACCESS_DENIED: Final = "AccessDeniedException"


class WriteRule(NamedTuple):
    """What a replica in region `own` takes.

    `home` "": mode ONE. Writes are taken if `active` is `own`, and `to`, the region that is to take them next, "".
    Otherwise mode HOME: an item is written in the region that its attribute `home` names, one of `regions`; in `active`
    if it names none of them.
    """

    own: str
    active: str
    home: str = ""
    to: str = ""
    regions: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """No write at all is taken."""
        return not self.home and (bool(self.to) or self.active != self.own)


def rule_of(mode: WriteMode, own: str, regions: tuple[str, ...]) -> WriteRule | None:
    """None: all writes are taken."""
    match mode.mode:
        case Mode.ONE:
            return WriteRule(own, mode.active, to=mode.to)
        case Mode.HOME:
            return WriteRule(own, mode.active, mode.home, regions=regions)
    return None


def rule_to_wire(rule: WriteRule, out: log.WriteRule) -> None:
    out.own, out.active, out.home, out.to = rule.own, rule.active, rule.home, rule.to
    out.regions.extend(rule.regions)


def rule_from_wire(message: log.WriteRule) -> WriteRule:
    return WriteRule(message.own, message.active, message.home, message.to, tuple(message.regions))


def barred(rule: WriteRule, stored: bytes | None) -> Refused | None:
    """Why an item, as it is stored (None: it is not), is not written here, whatever the write."""
    if not rule.home:
        return _closed(rule) if rule.closed else None
    if stored is None:
        return None
    home = _home(rule, stored)
    if home == rule.own:
        return None
    if home:
        return _denied(f"The item is written in {home} only, the region that its attribute {rule.home} names")
    if rule.active == rule.own:
        return None
    return _denied(
        f"The item's attribute {rule.home} names no region of the table: it is written in {rule.active} only"
    )


def unfit(rule: WriteRule, stored: bytes | None, image: bytes | None) -> Refused | None:
    """Why an item that may be written here must not become `image` (None: be deleted)."""
    if not rule.home or image is None:
        return None
    home = _home(rule, image)
    if stored is None and home != rule.own:
        if home:
            return _denied(f"A new item whose attribute {rule.home} names {home} is written in {home}")
        return _denied(f"A new item needs the attribute {rule.home}, naming the region that writes it: {rule.own} here")
    if not home:
        return _denied(f"The attribute {rule.home} must name a region of the table: {', '.join(rule.regions)}")
    return None


def expires_here(rule: WriteRule | None, image: bytes | None) -> bool:
    """Whether this region deletes an item whose time has come: the one that may write it, and no other."""
    return rule is None or barred(rule, image) is None


def _closed(rule: WriteRule) -> Refused:
    if rule.to and rule.active == rule.own:
        return _denied(
            f"Writes of this table move to {rule.to}, which takes them once it has all that was written here"
        )
    return _denied(f"Writes of this table are taken in {rule.active} only")


def _home(rule: WriteRule, image: bytes) -> str:
    """The region of the table that an image names, "" for none."""
    value = loads(image).get(rule.home)
    named = value.get("S") if value is not None else None
    return named if isinstance(named, str) and named in rule.regions else ""


def _denied(message: str) -> Refused:
    return Refused(ACCESS_DENIED, message)
