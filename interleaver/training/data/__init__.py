"""From traces to datasets: rows, their selection, and the formats that trainers read."""
