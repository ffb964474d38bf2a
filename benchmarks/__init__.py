"""What the pack costs, measured beside what people would do without it: `python -m benchmarks`."""
