"""Fuzz targets: one for each reader of bytes from the wire, with what it may raise and what must hold.

``python -m tests.fuzz list`` shows them, ``python -m tests.fuzz run TARGET --inputs 10000000`` runs one for as long as
you like. Inputs are made by `mutate` from the target's seeds; the same seed number gives the same inputs. What breaks
a target is written to ``tests/fuzz/finds/TARGET/`` and is from then on part of the tests.
"""
