"""What SAMs cost: parameters, arithmetic, time and memory, measured side by side."""
