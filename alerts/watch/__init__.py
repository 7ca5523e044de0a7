"""The watch over the way to people: the dead man's switch is fed, and test messages are looked for where they end."""
