"""Bytes, keys and signatures, which everything above stands on; nothing here knows what a token is.

    from capx.crypto import KeyRing, RootKey

    ring = KeyRing(RootKey.generate())
    exported = ring.exported("crm")     # what the CRM needs to verify, and nothing of any other resource

Modules:

    hashing, base64url, canonical_json, strict_json     MACs, digests and their spellings
    ed25519                                             signatures
    keys, key_file                                      root keys, audience keys, and the files that hold them
    private_file                                        files that others may not read, or not change
"""

from capx.crypto.keys import AudienceKey, AudienceKeys, KeyRing, RootKey

__all__ = ["AudienceKey", "AudienceKeys", "KeyRing", "RootKey"]
