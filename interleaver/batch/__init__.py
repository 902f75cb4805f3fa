"""Many runs: from a list of prompts to a store full of traces."""
