"""An authority elsewhere, over HTTP: what goes over the wire, and the clients of operators and of resources.

    forms, translating, answers, problems    values of this process as JSON, and back, errors among them
    patience, peer, pages                    an answer that has to come, whole, in time, from whom it is meant to
    operator_client                          what an `Authority` does, over the socket of `capx serve`
    resource_client, resource_mac            what a resource reports, under its audience's key

Law: what did not come whole, or not in time, is no answer.
"""
