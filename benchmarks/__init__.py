"""Benchmarks: ratios within one run, because absolute figures tell about the machine."""
