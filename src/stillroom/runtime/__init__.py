"""Process-level parts of a run: device, distributed processes, signals, progress output and memory."""
