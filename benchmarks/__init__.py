"""What is measured: `python -m benchmarks` lists the commands. One module a command."""
