"""The engine: samplers on a loop of their own, and the sessions of the trackers that lease it."""
