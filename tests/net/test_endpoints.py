"""Endpoints behind proxies and certificate authorities of one's own, as the SDKs' own clients reach them."""

import shutil
import ssl
import subprocess

import pytest
from support.image_endpoint import image_reply
from support.scripted_server import chat_reply, serving

from interleaver import ChatPlanner
from interleaver.errors import BackendUnavailable
from interleaver.tools.openai_images import OpenAIImages

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
PLAN = '{"execution_plan": [{"step_number": 1, "prompt": "draw", "instruction": "i"}]}'


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_proxy_is_used(monkeypatch):
    """The host has no address here; only the proxy could know it."""
    with serving(chat_reply(PLAN), image_reply()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        planner = ChatPlanner(model="m", base_url="http://models.example/v1", timeout=20)
        assert len((await planner.plan("a boat", [])).steps) == 1
        generator = OpenAIImages(model="m", base_url="http://models.example/v1", timeout=20)
        await generator.generate("a cat", [], 7, (64, 64))
    paths = [request.path for request in proxy.requests]
    assert paths == ["http://models.example/v1/chat/completions", "http://models.example/v1/images/generations"]


async def test_a_host_may_be_reached_without_the_proxy(monkeypatch):
    with serving(chat_reply(PLAN)) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        planner = ChatPlanner(model="m", base_url=f"{server.url}/v1", timeout=20)
        assert len((await planner.plan("a boat", [])).steps) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that no public authority has signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_authority_of_ones_own(monkeypatch, certificate, trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serving(chat_reply(PLAN), tls=context) as server:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        planner = ChatPlanner(model="m", base_url=f"{server.url}/v1", timeout=20)
        if trusted:
            assert len((await planner.plan("a boat", [])).steps) == 1
            return
        with pytest.raises(BackendUnavailable, match="cannot be reached .*certificate"):
            await planner.plan("a boat", [])
