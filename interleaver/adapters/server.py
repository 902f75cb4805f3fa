"""What a LangGraph server loads: the compiled graph, and a route that serves its pictures.

`langgraph.json` refers to both. The server provides the checkpointer. The environment variable INTERLEAVER_PROFILE
names the profile: a TOML file, or a profile that comes with this package. Without it the graph runs in the sandbox. If
the profile has no `public_url`, links to pictures point to the server's own `/pictures`.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.graph.builder import build_graph
from interleaver.graph.compiled import GraphBuilder
from interleaver.store.images import ImageStore, LostPicture

PROFILE_VARIABLE = "INTERLEAVER_PROFILE"
HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
"""A hash names the same bytes for ever, and they are a picture whatever else they look like."""
PRIVATE_HEADERS = HEADERS | {"Cache-Control": "private, max-age=31536000, immutable"}


def _load() -> tuple[GraphBuilder, ImageStore]:
    """Return the state machine and the image store of the profile that the environment variable names."""
    name = os.environ.get(PROFILE_VARIABLE)
    if name:
        from interleaver.profile import load_profile
        from interleaver.runner import make_graph, open_run_store

        profile = load_profile(name)
        store = open_run_store(profile).images
        builder = make_graph(profile, store)
    else:
        store = ImageStore()
        builder = build_graph(images=store)
    server_url = os.environ.get("LANGGRAPH_API_URL")  # set by the LangGraph server itself
    if server_url and store.public_url is None:
        store.public_url = f"{server_url.rstrip('/')}/pictures"
    return builder, store


async def get_picture(request: Request) -> Response:
    """Serve a picture by its hash; responses may be cached forever, since a hash always names the same bytes.

    If the server authenticates this route (`http.enable_custom_route_auth`), a user gets only pictures of that user.
    """
    sha256 = request.path_params["name"].partition(".")[0]
    user = request.user.identity if "user" in request.scope and request.user.is_authenticated else None
    try:
        picture = await images.of_tenant(user).find(sha256)
    except (BadInput, LostPicture) as error:
        return PlainTextResponse(f"{error}\n", status_code=404)
    except BackendUnavailable as error:
        return PlainTextResponse(f"{error}\n", status_code=503)
    return Response(picture.data, media_type=picture.media_type, headers=PRIVATE_HEADERS if user else HEADERS)


_builder, images = _load()
graph = _builder.compile(name="interleaver")
app = Starlette(routes=[Route("/pictures/{name}", get_picture)])
