"""The process a run lives in: device, distributed, signals, reporters, memory."""
