"""Writes the monitoring of somebody else's project: scrape configuration, rules, dashboards and pages under its own name."""
