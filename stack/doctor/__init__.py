"""``./ops doctor``: checks a host before PostHub is deployed on it, and afterwards."""
