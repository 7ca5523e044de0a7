"""Alerts: the rules, Alertmanager's configuration, the pages, and the tools that hold them together."""
