"""What a URL gets, who can tell that it is ours, and where a request never goes."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme

from capx.server.notify import webhook
from capx.server.notify.addresses import look_up
from capx.server.notify.hook import SECONDS, Hook, NotTaken
from capx.server.notify.notices import Notice
from capx.server.notify.webhook import MOST_READ, LookUp, Webhook, signed_headers
from tests.labs.hooks import Receiver, drips, floods, free_port, hangs, is_good, key_of, notice, secret, status
from tests.labs.waiting import until


def send(hook: Hook, said: Notice | None = None, look_up: LookUp = look_up) -> None:
    asyncio.run(Webhook(hook, look_up).send(said or notice(), at=int(time.time())))


def why_not(hook: Hook, look_up: LookUp = look_up) -> str:
    with pytest.raises(NotTaken) as caught:
        send(hook, look_up=look_up)
    return str(caught.value)


def test_the_signature_is_that_of_the_text_of_standard_webhooks() -> None:
    # The example of the specification.
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_checks_the_signature_takes_a_notice() -> None:
    with Receiver() as receiver:
        said = notice(task="t.1")
        send(receiver.hook(), said)
        ((headers, body),) = receiver.got
        assert receiver.told == [json.loads(said.body)]
        assert (headers["webhook-id"], headers["content-type"]) == (said.id, "application/json")
        assert headers["host"] == f"127.0.0.1:{receiver.port}"
        # The library of others says the same.
        standardwebhooks.Webhook(receiver.secret).verify(body, headers)


def test_another_secret_body_id_or_time_is_not_signed() -> None:
    with Receiver() as receiver:
        send(receiver.hook())
        ((headers, body),) = receiver.got
    key = key_of(receiver.secret)
    assert is_good(headers, body, key)
    assert not is_good(headers, body, key_of(secret(2)))
    assert not is_good(headers, body.replace(b"waits", b"waitz"), key)
    assert not is_good({**headers, "webhook-id": "msg_2"}, body, key)
    # A replay of long ago: its time is signed, and too old.
    old = str(int(headers["webhook-timestamp"]) - 600)
    assert not is_good({**headers, "webhook-timestamp": old}, body, key)
    stale = signed_headers(key, headers["webhook-id"], int(old), body)
    assert not is_good(stale, body, key)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_any_answer_of_the_200s_is_a_yes(code: int) -> None:
    with Receiver() as receiver:
        receiver.behaviour = status(code)
        send(receiver.hook())


@pytest.mark.parametrize("code", [400, 401, 404, 410, 429, 500, 503])
def test_any_other_answer_is_a_no(code: int) -> None:
    with Receiver() as receiver:
        receiver.behaviour = status(code)
        assert why_not(receiver.hook()) == f"it answered HTTP {code}"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(code: int) -> None:
    with Receiver() as receiver, Receiver() as elsewhere:
        receiver.behaviour = status(code, Location=elsewhere.url())
        assert why_not(receiver.hook()) == f"it answered HTTP {code}, and no redirect is followed"
        assert elsewhere.got == []


def test_no_proxy_and_no_netrc_of_the_environment_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").touch(mode=0o600)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password pw\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Receiver() as receiver, Receiver() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(path=""))
        send(receiver.hook())
        assert "authorization" not in receiver.got[0][0]
        assert proxy.got == []


@pytest.mark.parametrize("behaviour", [hangs, drips])
def test_a_host_that_hangs_or_drips_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch, behaviour: Callable[[Any], None]
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 2.0)
    with Receiver() as receiver:
        receiver.behaviour = behaviour
        began = time.monotonic()
        assert why_not(receiver.hook()) == "it gave no whole answer within 2 seconds"
        assert 1.5 < time.monotonic() - began < 2.0 + 5


def test_an_answer_without_end_is_left_early() -> None:
    with Receiver() as receiver:
        receiver.behaviour = floods
        began = time.monotonic()
        send(receiver.hook())
        assert time.monotonic() - began < SECONDS / 2
        # What was on its way at that time, and no more.
        flooded = until(lambda: receiver.flooded)
        assert flooded > MOST_READ


def test_a_look_up_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(host: str, port: int) -> tuple[str, ...]:
        time.sleep(4)
        return ("127.0.0.1",)

    monkeypatch.setattr(webhook, "SECONDS", 2.0)
    with Receiver() as receiver:
        assert why_not(receiver.hook(), hang) == "it gave no whole answer within 2 seconds"
        assert receiver.got == []


def test_the_connection_goes_to_the_address_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("169.254.169.254",)

    with Receiver() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", no_other_look_up(socket.getaddrinfo))
        send(receiver.hook(url=receiver.url("pager.example")), look_up=rebinding)
        assert asked == ["pager.example"]
        assert receiver.got[0][0]["host"] == f"pager.example:{receiver.port}"


def no_other_look_up(real: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(host: Any, *args: Any, **named: Any) -> Any:
        assert host in {"127.0.0.1", b"127.0.0.1"}, host
        return real(host, *args, **named)

    return refuse


@pytest.mark.parametrize(
    "addresses",
    [
        ("169.254.169.254",),
        ("::ffff:169.254.169.254",),
        ("fe80::1%lo",),
        ("0.0.0.0",),
        # One of several is enough: which one would be taken is not ours to say.
        ("127.0.0.1", "169.254.169.254"),
    ],
)
def test_a_name_that_leads_to_a_link_local_address_is_refused(addresses: tuple[str, ...]) -> None:
    with Receiver() as receiver:
        why = why_not(receiver.hook(url=receiver.url("pager.example")), lambda host, port: addresses)
        assert "is link-local, or not the address of one machine" in why
        assert receiver.got == []


@pytest.mark.parametrize("host", ["[::ffff:169.254.169.254]", "[fe80::1]", "169.254.169.254", "0.0.0.0", "2852039166"])
def test_a_url_with_such_an_address_is_refused(host: str) -> None:
    hook = Hook(name="pager", url=f"http://{host}/", secret=bytes(32), private=True)
    assert "is link-local" in why_not(hook)


def test_loopback_and_private_addresses_need_a_private_hook() -> None:
    with Receiver() as receiver:
        assert "127.0.0.1, which is not public" in why_not(receiver.hook(private=False))
        assert "10.1.2.3, which is not public" in why_not(
            receiver.hook(private=False), lambda host, port: ("10.1.2.3",)
        )
        assert receiver.got == []


def here(host: str, port: int) -> tuple[str, ...]:
    return ("127.0.0.1",)


def test_an_address_of_ipv6_is_connected_to() -> None:
    try:
        receiver = Receiver(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with receiver:
        send(receiver.hook(url=receiver.url("pager.example")), look_up=lambda host, port: ("::1",))
        send(receiver.hook(url=receiver.url("[::1]")))
        assert [headers["host"] for headers, _ in receiver.got] == [
            f"{host}:{receiver.port}" for host in ("pager.example", "[::1]")
        ]


def tls_of(name: str, issuer: Any, **valid: datetime) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(name, **valid).configure_cert(context)
    return context


def test_tls_is_checked_for_the_name_and_not_for_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer: Any = trustme.CA()
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    names: list[str | None] = []
    tls = tls_of("pager.example", issuer)
    tls.sni_callback = lambda connection, name, context: names.append(name)
    with Receiver(tls=tls) as receiver:
        send(receiver.hook(url=receiver.url("pager.example")), look_up=here)
        assert names == ["pager.example"]
        assert len(receiver.told) == 1
        for url in (receiver.url("other.example"), receiver.url()):
            assert why_not(receiver.hook(url=url), here).startswith("its host has a certificate for another name")
        monkeypatch.delenv("SSL_CERT_FILE")
        url = receiver.url("pager.example")
        assert why_not(receiver.hook(url=url), here).startswith("its host has a certificate that is not trusted here:")
        assert len(receiver.got) == 1


def test_a_certificate_of_another_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer: Any = trustme.CA()
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for given in ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, {"not_before": datetime(2090, 1, 1, tzinfo=UTC)}):
        with Receiver(tls=tls_of("pager.example", issuer, **given)) as receiver:
            why = why_not(receiver.hook(url=receiver.url("pager.example")), here)
            assert why.startswith("its host has a certificate that has expired, or is not valid yet:")


def test_a_host_without_tls_is_told_in_words() -> None:
    with Receiver() as receiver:
        url = receiver.url("pager.example").replace("http", "https")
        assert why_not(receiver.hook(url=url), here).startswith("its host does not speak TLS")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket that could not connect
def test_a_host_that_is_away_is_told_in_words() -> None:
    away = Hook(name="pager", url=f"http://127.0.0.1:{free_port()}/", secret=bytes(32), private=True)
    assert why_not(away) == "its host cannot be connected to"
    nobody = Hook(name="pager", url="https://nobody.invalid/", secret=bytes(32))
    assert why_not(nobody) == "its host cannot be looked up"


def test_what_is_no_http_is_told_without_a_word_of_it() -> None:
    def garbage(handler: Any) -> None:
        handler.wfile.write(b"SECRET SECRET\r\n\r\n")

    with Receiver() as receiver:
        receiver.behaviour = garbage
        assert why_not(receiver.hook()) == "it gave no answer of HTTP (RemoteProtocolError)"
