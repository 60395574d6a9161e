"""Other trackers' classes on this engine: change the import and nothing else."""
