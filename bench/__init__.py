"""Measurements of the suite, each against named rivals and limits in one run."""
