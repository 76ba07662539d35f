"""PartiQL: statements are parsed, planned and carried out by the operations that requests name directly.

    tokens, parse ─▶ tree ─▶ values, conditions ─▶ plan ─▶ GetItem, Query, Scan, PutItem, UpdateItem, DeleteItem

A plan is the body of one of those requests, or of several: conditions and updates become expressions with generated
placeholders, so that nodes evaluate nothing new.  `execute`, `batch` and `transaction` are the three operations.
"""
