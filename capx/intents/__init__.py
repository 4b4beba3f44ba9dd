"""Intents: documents in which people say and sign what they want, and the keys that they sign with.

    import time

    import capx
    from capx.intents import Intent, PrincipalKey

    epoch = capx.Authority.temporary().epoch()          # the only authority that can open it
    key = PrincipalKey.generate("ana@our.example")
    intent = Intent.written(
        principal=key.name, authority=epoch, purpose="qbr", statement="Prepare the review.", now=int(time.time())
    )
    signed = key.sign_intent(intent)

Modules:

    intent           the document, its digest and its signature
    verdict_message  what a person signs who answers a request
    person_message   what a person signs to prove a request over the network
    principal_key    the key of a person, and its file
    epoch            the name of an authority in an intent: its id, and when the epoch of its store began
"""

from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey

__all__ = ["Intent", "PrincipalKey", "SignedIntent"]
