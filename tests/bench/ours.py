"""What is timed of capx, and the floor: the bare MACs of the same bytes, and the comparison.

Every presentation is fresh, and so are the call and the request that are judged: nothing is verified twice. The floor
is computed with the standard library alone.
"""

import hmac
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from capx import AudienceKeys, Capability, Denied, MalformedToken, Replay, RootKey, ToolCall, Verifier
from capx.crypto.base64url import unb64u
from capx.crypto.ed25519 import SEED, Signer, is_signed
from capx.store.protocols import Store
from capx.tokens import wire
from capx.tokens.capability import mint
from capx.tokens.discharge import Discharge
from capx.tokens.signed_blocks import MAX_SIGNATURES
from capx.verify.protocols import Liveness
from capx_caveats import Call
from tests.bench import workload
from tests.bench.authority.source import remembering
from tests.bench.measuring import Contender, Run, Unmeasurable
from tests.bench.timing import Step, each, repeated

FLOOR: Final = "bare MACs"
COLD: Final = "capx, cold"
WARM: Final = "capx, warm prefix"
COLD_STORED: Final = "capx, cold, replay in a store"
WARM_STORED: Final = "capx, warm prefix, replay in a store"
SIGNED_COLD: Final = "capx, signed, cold"
SIGNED_WARM: Final = "capx, signed, warm prefix"
CHECK: Final = "one Ed25519 check"
CAPX: Final = "capx"
CAVEATS_TOO: Final = "capx, caveats too"


class Bench:
    """One capability at one audience, and verifiers for it; `approvals` gives those that go with a presentation."""

    def __init__(
        self,
        capability: Capability,
        root: RootKey,
        liveness: Liveness,
        approvals: Callable[[], Iterable[Discharge]] = tuple,
    ) -> None:
        self.capability = capability
        self._approvals = approvals
        self.hops = len(capability.hops)
        self.key = root.audience_key(workload.AUDIENCE)
        self.secret = unb64u(self.key.line().split()[-1])
        self._keys = AudienceKeys(workload.AUDIENCE, [self.key])
        self._liveness = liveness

    def verifier(self, *, warm: bool, replay: Replay | None = None) -> Verifier:
        """One whose cache holds prefixes, or nothing."""
        return Verifier(
            workload.AUDIENCE,
            self._keys,
            liveness=self._liveness,
            replay=replay or remembering(),
            cache_size=1024 if warm else 0,
        )

    def texts(self, count: int, arguments: dict[str, int] = workload.ALLOWED) -> list[str]:
        """Fresh presentations of one call."""
        call = workload.received(arguments)
        return [self.capability.present(call, approvals=self._approvals()).text for _ in range(count)]

    def verify(self, verifier: Verifier, watch: Callable[[], float] = time.process_time) -> Run:
        """Verify presentations that are allowed."""

        def one(presented: tuple[str, ToolCall, Call]) -> None:
            verifier.verify(*presented)

        return lambda count: each(one, self._presented(count, workload.ALLOWED), watch)

    def deny(self, verifier: Verifier) -> Run:
        """Verify presentations that every hop refuses."""

        def one(presented: tuple[str, ToolCall, Call]) -> None:
            with suppress(Denied):
                verifier.verify(*presented)
                raise AssertionError("allowed what every hop refuses")

        return lambda count: each(one, self._presented(count, workload.DENIED))

    def floor(self, count: int) -> float:
        """The MACs of presentations, and the comparison."""
        key = hmac.digest(b"macaroons-key-generator", self.secret, "sha256")

        def one(frame: tuple[bytes, tuple[bytes, ...], bytes]) -> None:
            identifier, blocks, signature = frame
            tail = hmac.digest(key, identifier, "sha256")
            for block in blocks:
                tail = hmac.digest(tail, block, "sha256")
            if not hmac.compare_digest(tail, signature):
                raise AssertionError("the floor does not hold")

        frames = map(wire.decode, self.texts(count))
        return each(one, ((frame.identifier_bytes, _first_party(frame), frame.signature) for frame in frames))

    def verifications(self) -> dict[str, Run]:
        """The floor, and verification by a verifier that remembers nothing and by one that remembers the prefix."""
        return {
            FLOOR: self.floor,
            COLD: self.verify(self.verifier(warm=False)),
            WARM: self.verify(self.verifier(warm=True)),
        }

    def _presented(self, count: int, arguments: dict[str, int]) -> list[tuple[str, ToolCall, Call]]:
        return [
            (text, workload.received(arguments), workload.executed(arguments)) for text in self.texts(count, arguments)
        ]


def contenders(bench: Bench, store: Store) -> list[Contender]:
    """All that is timed of capx at one length."""
    capability, at = bench.capability, bench.hops
    call = workload.received(workload.ALLOWED)
    presentation = bench.texts(1)[0]
    now = int(time.time())

    def stored(*, warm: bool) -> Run:
        return bench.verify(bench.verifier(warm=warm, replay=Replay.store(store)), time.perf_counter)

    steps: dict[tuple[str, str], Step] = {
        ("mint", CAPX): lambda: mint(bench.key, workload.authority(now), now=now).text,
        ("attenuate", CAPX): lambda: capability.attenuate(workload.WHERE).text,
        ("delegate", CAPX): lambda: (
            capability.delegate(to="agent", allow=workload.ENTRIES, caveats=workload.of_a_hop(at)).text
        ),
        ("present", CAPX): lambda: capability.present(call).text,
        ("decode", CAPX): lambda: wire.decode(presentation),
        ("decode", CAVEATS_TOO): lambda: Capability.parse(capability.text),
    }
    runs: dict[tuple[str, str], Run] = {
        **{("verify", who): run for who, run in bench.verifications().items()},
        ("verify", COLD_STORED): stored(warm=False),
        ("verify", WARM_STORED): stored(warm=True),
        ("deny", COLD): bench.deny(bench.verifier(warm=False)),
        ("deny", WARM): bench.deny(bench.verifier(warm=True)),
    }
    runs |= {named: partial(_if_it_fits, step) for named, step in steps.items()}
    return [Contender(op, at, who, run) for (op, who), run in runs.items()]


def signed_contenders(hops: int, root: RootKey, liveness: Liveness) -> list[Contender]:
    """The verification of a chain of signed hops by keys that the verifier knows, and one check of a signature."""
    # Each hop and the presentation.
    if hops + 1 > MAX_SIGNATURES:
        raise Unmeasurable(f"a token has at most {MAX_SIGNATURES} signatures")
    found = Bench(workload.signed_chain_of(hops, root, int(time.time())), root, liveness).verifications()
    runs = {SIGNED_COLD: found[COLD], SIGNED_WARM: found[WARM], CHECK: signature_check()}
    return [Contender("verify", hops, who, run) for who, run in runs.items()]


def signature_check() -> Run:
    """The check of one good signature."""
    signer, message = Signer(os.urandom(SEED)), os.urandom(32)
    signature = signer.sign(message)

    def check() -> None:
        if not is_signed(signer.public, message, signature):
            raise AssertionError("a good signature is refused")

    return partial(repeated, check)


def for_peers(bench: Bench) -> dict[str, object]:
    """What another macaroon library needs in order to read the same bytes."""
    frame = wire.decode(bench.texts(1)[0])
    return {
        "hops": bench.hops,
        "secret": bench.secret.hex(),
        "location": workload.AUDIENCE,
        "identifier": frame.identifier_bytes.decode(),
        "blocks": [block.decode() for block in _first_party(frame)],
    }


def sizes(bench: Bench) -> dict[str, int]:
    """Characters of text held, and sent to a resource."""
    return {"capx, held": len(bench.capability.text), "capx, presented": len(bench.texts(1)[0])}


def _if_it_fits(step: Step, count: int) -> float:
    try:
        return repeated(step, count)
    except MalformedToken as full:
        raise Unmeasurable(str(full)) from None


def _first_party(frame: wire.Frame) -> tuple[bytes, ...]:
    return tuple(block for block in frame.blocks if isinstance(block, bytes))
