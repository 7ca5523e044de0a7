"""``./ops deploy``: deploy to the VPS or to Kubernetes, or roll back."""
