"""The dashboards themselves, one module each."""
