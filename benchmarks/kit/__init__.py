"""A kit for a GPU machine without a network: `python -m benchmarks.kit FOLDER` packs it, its run.py measures.

pack.py, fatbin.py and __main__.py run where it is packed; run.py, of the standard library alone, starts the parts of
parts.py there.
"""
