"""The compiled graph that `langgraph.json` names; the server brings its own checkpointer.

The environment variable INTERLEAVER_PROFILE names its profile, a TOML file or a ready one; without it, it draws in the
sandbox. Where nothing else is said, its pictures are linked to as `langgraph.json` has the server serve them.
"""

import os

from interleaver.graph.builder import build_graph
from interleaver.traces.images import ImageStore

PROFILE = "INTERLEAVER_PROFILE"

if os.environ.get(PROFILE):
    from interleaver.config import load_profile

    _profile = load_profile(os.environ[PROFILE])
    images = _profile.store.open().images
    _builder = _profile.build(images)
else:
    images = ImageStore()
    _builder = build_graph(images=images)

_server = os.environ.get("LANGGRAPH_API_URL")  # set by the LangGraph server itself
if _server and images.public_url is None:
    images.public_url = f"{_server.rstrip('/')}/pictures"

graph = _builder.compile(name="interleaver")
