"""``./ops doctor``: what is wrong with a host before PostHub is deployed on it, and afterwards."""
