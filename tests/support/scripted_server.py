"""An HTTP server on loopback that answers what a test wrote for it, and remembers what it was asked."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    body: bytes | dict = b""
    status: int = 200
    type: str = "application/json"
    silent: bool = False  # no answer until the server stops
    trickle: float = 0.0  # seconds between the bytes of the body
    headers: dict = field(default_factory=dict)
    endless: bool = False  # the body again and again, until the client hangs up


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self):
        """The fields of a multipart form: name -> list of (file name or None, bytes)."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        fields = {}
        for part in BytesParser().parsebytes(head + self.body).get_payload():
            name = part.get_param("name", header="content-disposition")
            fields.setdefault(name, []).append((part.get_filename(), part.get_payload(decode=True)))
        return fields


class ScriptedServer:
    """Gives its replies in turn; the last one again and again. A callable reply is given the request."""

    def __init__(self, *replies, tls=None):
        self.replies = list(replies)
        self.tls = tls  # an SSL context, to serve https
        self.requests = []
        self.stopped = threading.Event()
        self.endless_bytes = 0

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.server_port}"

    def answer(self, request):
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(request) if callable(reply) else reply

    def start(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = owner.answer(Request(self.command, self.path, headers, body))
                if reply.silent:
                    owner.stopped.wait()
                data = json.dumps(reply.body).encode() if isinstance(reply.body, dict) else reply.body
                self.send_response(reply.status)
                length = {"transfer-encoding": "chunked"} if reply.endless else {"content-length": len(data)}
                for name, value in {"content-type": reply.type, **length, **reply.headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                while reply.endless:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    owner.endless_bytes += len(data)
                if self.command == "HEAD":
                    return
                for byte in range(len(data)) if reply.trickle else ():
                    self.wfile.write(data[byte : byte + 1])
                    if owner.stopped.wait(reply.trickle):
                        return
                if not reply.trickle:
                    self.wfile.write(data)

            do_HEAD = do_GET = do_POST = _any

            def log_message(self, *args):
                pass

            def handle(self):
                try:
                    super().handle()
                except (ConnectionError, TimeoutError):
                    pass  # the client gave up, as some tests want it to

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(*replies, tls=None):
    server = ScriptedServer(*replies, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def chat_reply(content, *, finish="stop", usage=(11, 7), **message):
    """A chat completion as OpenAI and vLLM send it."""
    return Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "served",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": {"role": "assistant", "content": content, **message},
                }
            ],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
        }
    )
