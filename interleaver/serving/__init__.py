"""Starting planner, critic and generator services, on one machine or many."""
