"""From traces to trained planners and critics."""
