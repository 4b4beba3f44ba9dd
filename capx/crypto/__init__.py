"""Bytes, keys, signatures and times, on which all other rooms build; no code here knows what a token is.

    from capx.crypto import KeyRing, RootKey

    ring = KeyRing(RootKey.generate())
    exported = ring.exported("crm")     # the keys that the CRM verifies with, and no key of any other resource

Modules:

    hashing, base64url, canonical_json, strict_json     MACs, digests, and how bytes and JSON are written
    ed25519                                             signatures
    named_key, agent_key                                keys with a name: of a person, and of an agent
    ssh_agent                                           keys of people whose secret stays in ssh-agent
    sealed                                              text that only the owner of one key can read
    boxes                                               the key of a demand, for its approvers and for a resource
    keys, key_file                                      root keys, audience keys, and the files that hold them
    core_dumps                                          no root key in the file that a crash leaves
    private_file                                        files that other users cannot read, or cannot change
    instants                                            times that callers give
"""

from capx.crypto.keys import AudienceKey, AudienceKeys, KeyRing, RootKey

__all__ = ["AudienceKey", "AudienceKeys", "KeyRing", "RootKey"]
