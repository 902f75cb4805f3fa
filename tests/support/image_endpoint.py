"""Replies of an endpoint that draws."""

import base64

import pytest

from support.fakes import plain_picture
from support.scripted_server import Reply

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def image_reply(picture=None, **item):
    data = (picture or plain_picture()).data
    return Reply({"created": 1, "data": [{"b64_json": base64.b64encode(data).decode(), **item}]})
