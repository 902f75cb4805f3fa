"""The state machine that turns one request into an illustrated document."""
