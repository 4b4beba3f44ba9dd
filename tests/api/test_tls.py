"""What is wrong with TLS is said: an untrusted certificate, one for another name, no TLS, and files without any."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.api.relay.http_exchange import http_client
from capx.authority.people.client import PersonClient
from capx.errors import ConfigurationProblem, Unavailable
from capx.intents.principal_key import PrincipalKey
from capx.server.notify.hook import Hook
from capx.server.notify.webhook import Webhook
from capx.tokens.bundle import Bundle
from tests.labs.hostile_answers import answer, at_url

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("host", "trusted", "says"),
    [
        ("127.0.0.1", False, "certificate that is not trusted here: .* in SSL_CERT_FILE"),
        ("localhost", True, "certificate for another name"),
    ],
)
def test_a_certificate_that_is_not_good_is_named(
    *, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, says: str
) -> None:
    issuer, other = trustme.CA(), trustme.CA()
    (issuer if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls.pem")
    context.load_cert_chain(tmp_path / "tls.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake() -> None:
            with suppress(OSError), listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
                pass

        shaking = threading.Thread(target=shake)
        shaking.start()
        url = f"https://{host}:{listening.getsockname()[1]}"
        with AuthorityClient(url, bundle) as client, pytest.raises(Unavailable, match=says):
            client.status()
        shaking.join(20)


def test_plain_http_where_tls_is_meant_is_named(bundle: Bundle) -> None:
    with (
        at_url(lambda: answer(b"{}")) as url,
        AuthorityClient(url.replace("http", "https"), bundle) as client,
        pytest.raises(Unavailable, match="served without TLS"),
    ):
        client.status()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_a_problem(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    hook = Hook(name="pager", url="https://hooks.example/x", secret=b"x" * 24)
    makers: tuple[Callable[[], object], ...] = (
        lambda: AuthorityClient("https://localhost:1", bundle),
        lambda: PersonClient("https://localhost:1", PrincipalKey.generate("ana")),
        lambda: Webhook(hook),
        http_client,
    )
    for make in makers:
        with pytest.raises(ConfigurationProblem, match="SSL_CERT_FILE"):
            make()
