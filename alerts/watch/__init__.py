"""The alert watch: pings the dead man's switch, and checks that test messages arrive at their receivers."""
