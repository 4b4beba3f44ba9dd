"""A notice as a webhook: signed as Standard Webhooks says, and sent to exactly one address.

    webhook-signature: v1,base64(HMAC-SHA256(secret, ID "." TIMESTAMP "." BODY))

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Laws:

- The name of the host is looked up once, all its addresses must be allowed, and the connection goes to the one that was
  looked at. Another look-up, whose answer might be another, never happens. TLS and `Host` keep the name.
- No redirect is followed. The environment says nothing but which authorities of TLS are trusted (SSL_CERT_FILE,
  SSL_CERT_DIR): no proxy, no netrc.
- All of it, from the look-up to the end of the answer, takes at most SECONDS. After MOST_READ bytes of the answer no
  more is read, and none is kept.
- No error shows the URL, which often is a secret, or anything that the receiver said but its status. What other
  libraries say of a connection names the host, so it is said here in fixed words.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

import httpx

from capx.api.tls import reads_certificates, tls_problem
from capx.background import run_in_thread, wait_async
from capx.errors import Unavailable
from capx.server.notify.addresses import look_up, refusal
from capx.server.notify.hook import SECONDS, Hook, NotTaken
from capx.server.notify.notices import Notice

MOST_READ: Final = 1_024
"""Bytes of an answer after which no more is read."""

LookUp = Callable[[str, int], tuple[str, ...]]
"""Returns the addresses of a host, for a port; OSError if there are none."""


def signed_headers(secret: bytes, id_: str, at: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks; `at` is when this try is made (Unix seconds)."""
    covered = b".".join((id_.encode(), str(at).encode(), body))
    signature = base64.b64encode(hmac.digest(secret, covered, hashlib.sha256)).decode()
    return {"webhook-id": id_, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


class Webhook:
    """Sends notices to the URL of a hook."""

    def __init__(self, hook: Hook, look_up: LookUp = look_up) -> None:
        self._hook = hook
        self._url = httpx.URL(hook.url or "")
        self._look_up = look_up
        # Slow to make, and the same for all notices.
        with reads_certificates():
            self._tls = httpx.create_ssl_context()

    async def send(self, notice: Notice, *, at: int) -> None:
        """Send a notice once; NotTaken unless the answer is of the 200s."""
        try:
            # The timeouts of httpx are for single steps: a server that drips keeps within each of them.
            async with asyncio.timeout(SECONDS):
                status = await self._status(notice, at)
        except (TimeoutError, httpx.TimeoutException):
            raise NotTaken(f"it gave no whole answer within {SECONDS:.0f} seconds") from None
        except httpx.ConnectError as error:
            raise NotTaken(f"its host {tls_problem(error) or 'cannot be connected to'}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTaken(f"it gave no answer of HTTP ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise NotTaken(f"it answered HTTP {status}" + (", and no redirect is followed" * (300 <= status < 400)))

    async def _status(self, notice: Notice, at: int) -> int:
        address = await self._address()
        body = notice.body
        headers = {
            **signed_headers(self._hook.secret, notice.id, at, body),
            "content-type": "application/json",
            "user-agent": "capx",
            "connection": "close",
            "accept-encoding": "identity",
            "host": self._url.netloc.decode("ascii"),
        }
        named = {"sni_hostname": self._url.raw_host.decode("ascii")}
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, retries=0)
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
            client.stream(
                "POST", self._url.copy_with(host=address), content=body, headers=headers, extensions=named
            ) as answer,
        ):
            read = 0
            async for piece in answer.aiter_raw():
                read += len(piece)
                if read >= MOST_READ:
                    break
            return answer.status_code

    async def _address(self) -> str:
        host = self._url.raw_host.decode("ascii")
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        try:
            # In a thread of its own: a look-up cannot be stopped, and nothing may wait for it.
            found = await wait_async(run_in_thread(lambda: self._look_up(host, port), name="capx-look-up"))
        except (OSError, UnicodeError, Unavailable):
            raise NotTaken("its host cannot be looked up") from None
        for address in found:
            if (why := refusal(address, private=self._hook.private)) is not None:
                raise NotTaken(f"its host has the address {address}, which {why}")
        if not found:
            raise NotTaken("its host cannot be looked up")
        return found[0]
