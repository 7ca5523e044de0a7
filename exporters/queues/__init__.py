"""Queue lengths, ages and consumers, polled from the broker."""
