"""Fuzzers for what people's files and requests hold: real things, changed in one to three places.

A few cases of each run in tests/test_fuzz.py; `python -m tests.fuzz --minutes N` runs for long.
"""
