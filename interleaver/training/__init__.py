"""Building training datasets from traces, and training planners and critics on them."""
