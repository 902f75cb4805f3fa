"""Building datasets from traces: extracting rows, selecting them, and writing the formats that trainers read."""
