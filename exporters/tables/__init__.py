"""The event state: task and worker events, counted in bounded memory."""
