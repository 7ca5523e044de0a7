"""The event state: what task and worker events say, counted in bounded memory."""
