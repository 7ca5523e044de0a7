"""The embedded stack: the real servers and services, run without Docker and without root."""
