"""HTTP endpoints of models, and fetching pictures by URL."""
