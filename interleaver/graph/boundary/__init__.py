"""The boundary of the state machine: inputs, chat, reviews, events and tracing."""
