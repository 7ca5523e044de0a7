"""The long-running sidecar: schedules, metrics, health and the status page."""
