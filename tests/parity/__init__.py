"""Parity with `transformers`, on tiny random models of many shapes.

`configs.py` draws a shape and builds the same model twice; `harness.py` turns a
comparison into a test and into a row of the report; the comparisons stand in the test
files. `python -m tests.parity.report` writes docs/parity.md. `by_layer.py` records the
real model, layer by layer.
"""
