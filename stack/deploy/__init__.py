"""``./ops deploy``: roll out to the VPS or to Kubernetes, with a way back."""
