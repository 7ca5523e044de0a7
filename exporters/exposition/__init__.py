"""Metric families and the page that a scrape receives."""
