"""Writes the monitoring of another project: scrape configuration, rules, dashboards and pages under that project's name."""
