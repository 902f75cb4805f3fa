"""The served graph's pictures over HTTP, beside the LangGraph server's own routes (`http.app` in langgraph.json)."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from interleaver.errors import BadInput
from interleaver.graph.app import images

A_YEAR = "public, max-age=31536000, immutable"


async def picture(request: Request) -> Response:
    """A picture by its hash; what a hash names never changes."""
    sha256 = request.path_params["name"].partition(".")[0]
    try:
        found = await images.find(sha256)
    except BadInput as error:
        return PlainTextResponse(f"{error}\n", status_code=404)
    return Response(found.data, media_type=found.media_type, headers={"Cache-Control": A_YEAR})


app = Starlette(routes=[Route("/pictures/{name}", picture)])
