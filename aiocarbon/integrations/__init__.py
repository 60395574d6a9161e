"""The tracker inside engines that others have made; each module needs its engine, and none is imported from here."""
