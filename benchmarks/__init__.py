"""What aiocarbon promises, measured: `python -m benchmarks NAME [--json FILE] [--quick]`, each with its limits."""
