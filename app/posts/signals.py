"""Signals that other apps react to, without `posts` importing them."""

from django.dispatch import Signal

# Sent with `post` after the transaction that made it published has been committed.
post_published = Signal()
