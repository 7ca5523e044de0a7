"""Benchmarks of the suite, each against named peers and limits in the same run."""
