"""The rooms whose tests are judged by mutants, each with the tests that judge it: all of them quick."""

from typing import Final

from msgspec import Struct


class Room(Struct, frozen=True):
    """A module, as it lies in the repository, and its tests."""

    source: str
    tests: tuple[str, ...]

    @property
    def flat(self) -> str:
        """Where the module lies once all packages stand side by side, as mutmut wants them."""
        return self.source.removeprefix("caveats/").removeprefix("cli/")


def _caveats(module: str, *tests: str) -> Room:
    return Room(f"caveats/capx_caveats/{module}.py", tuple(f"tests/{test}.py" for test in tests))


def _capx(module: str, *tests: str) -> Room:
    return Room(f"capx/{module}.py", tuple(f"tests/{test}.py" for test in tests))


ROOMS: Final = {
    "base64url": Room("capx/crypto/base64url.py", ("tests/crypto/test_base64url.py", "tests/tokens/test_wire.py")),
    "hashing": Room(
        "capx/crypto/hashing.py",
        ("tests/crypto/test_hashing.py", "tests/tokens/test_chain.py", "tests/tokens/test_wire.py"),
    ),
    "chain": Room("capx/tokens/chain.py", ("tests/tokens/test_chain.py", "tests/tokens/test_wire.py")),
    "wire": Room("capx/tokens/wire.py", ("tests/tokens/test_wire.py",)),
    "signed_blocks": Room(
        "capx/tokens/signed_blocks.py",
        (
            "tests/tokens/test_signed_blocks.py",
            "tests/attacks/test_stolen_keys.py",
            "tests/attacks/test_law1_of_keys.py",
        ),
    ),
    "named_key": _capx("crypto/named_key", "crypto/test_agent_key", "intents/test_principal_key"),
    "agent_key": _capx("crypto/agent_key", "crypto/test_agent_key", "crypto/test_sealed"),
    "sealed": _capx("crypto/sealed", "crypto/test_sealed"),
    "binding": Room("capx/tokens/binding.py", ("tests/tokens/test_binding.py", "tests/crypto/test_canonical_json.py")),
    "verifier": Room(
        "capx/verify/verifier.py",
        (
            "tests/verify/test_verifier.py",
            "tests/verify/test_ended_tokens.py",
            "tests/verify/test_admitted.py",
            "tests/verify/test_decision.py",
            "tests/verify/test_evaluator.py",
            "tests/verify/test_spending.py",
            "tests/tokens/test_revocation_key.py",
            "tests/tokens/test_lineage.py",
            "tests/tokens/test_binding.py",
            "tests/attacks/test_stolen_keys.py",
        ),
    ),
    "explanation": _capx(
        "verify/explanation",
        "verify/test_explanation",
        "verify/test_evaluator",
        "verify/test_spending",
        "verify/test_verifier",
    ),
    "evaluator": _capx(
        "verify/evaluator",
        "verify/test_evaluator",
        "verify/test_ended_tokens",
        "verify/test_args_digest",
        "verify/test_admitted",
        "verify/test_verifier",
        "tokens/test_revocation_key",
        "attacks/test_stolen_keys",
        "attacks/test_who_acts",
    ),
    "admitted": _capx(
        "verify/admitted",
        "verify/test_admitted",
        "verify/test_evaluator",
        "verify/test_args_digest",
        "verify/test_suggestion",
        "verify/test_spending_give_back",
        "verify/test_verifier",
    ),
    "caveats": _caveats(
        "caveats",
        "caveats/test_caveats",
        "caveats/test_call",
        "caveats/test_names",
        "caveats/test_vocabulary",
        "caveats/test_schema",
        "caveats/test_extensions",
        "caveats/test_caveats_answers",
        "verify/test_spending",
    ),
    "chain_caveats": _caveats(
        "chain_caveats",
        "caveats/test_chain_caveats",
        "caveats/test_placement",
        "caveats/test_vocabulary",
        "caveats/test_schema",
        "caveats/test_extensions",
        "caveats/test_caveats_answers",
    ),
    "amount": _caveats("amount", "caveats/test_amount"),
    "call": _caveats("call", "caveats/test_call", "caveats/test_amount"),
    "placement": _caveats("placement", "caveats/test_placement", "caveats/test_chain_caveats"),
    "value_constraints": _caveats(
        "value_constraints", "caveats/test_constraints", "caveats/test_caveats_answers", "caveats/test_work_bound"
    ),
    "texts": _caveats("texts", "caveats/test_constraints", "caveats/test_caveats_answers", "caveats/test_work_bound"),
    "constraints": _caveats(
        "constraints",
        "caveats/test_constraints",
        "caveats/test_caveats",
        "caveats/test_caveats_answers",
        "caveats/test_constraints_edges",
    ),
    "values": _caveats(
        "values",
        "caveats/test_values",
        "caveats/test_levels",
        "caveats/test_caveats_answers",
        "caveats/test_constraints_edges",
    ),
    "shown_values": _caveats(
        "shown_values", "caveats/test_shown_values", "caveats/test_caveats_answers", "caveats/test_constraints_edges"
    ),
    "network": _caveats("network", "caveats/test_network", "caveats/test_constraints", "caveats/test_caveats_answers"),
    "levels": _caveats("levels", "caveats/test_levels", "crypto/test_canonical_json"),
    "work_bound": _caveats("work_bound", "caveats/test_work_bound"),
    "ended_tokens": _capx("verify/ended_tokens", "verify/test_ended_tokens"),
    "disclosure": _capx("verify/disclosure", "verify/test_disclosure", "verify/test_decision", "guard/test_deferred"),
    "decision": _capx(
        "verify/decision",
        "verify/test_decision",
        "verify/test_evidence",
        "verify/test_spending_give_back",
        "verify/test_approvals",
        "authority/test_call_approvals",
        "agent/test_call_asks_approvals",
        "server/test_asks_approvals",
    ),
    "observer": _capx("guard/observer", "guard/test_observer"),
    "decision_counter": _capx("guard/decision_counter", "guard/test_decision_counter"),
    "argument_copy": _capx("guard/argument_copy", "guard/test_argument_copy"),
    "deferred": _capx("guard/fastapi/deferred", "guard/test_deferred", "guard/test_defaults"),
    "defaults": _capx("guard/fastapi/defaults", "guard/test_defaults", "guard/test_defaults_computed"),
    "ignored_members": _capx("guard/fastapi/ignored_members", "guard/test_ignored_members"),
    "request": _capx(
        "guard/guarded_request",
        "guard/test_guarded_request",
        "guard/test_guarded_request_large",
        "guard/test_asgi_guard",
        "guard/test_deferred",
        "attacks/test_guarded_answers",
    ),
    "response_gate": _capx(
        "guard/asgi/response_gate",
        "guard/test_asgi_response_gate",
        "guard/test_asgi_guard",
        "guard/test_deferred",
        "guard/test_fastapi_guard",
        "attacks/test_guarded_answers",
    ),
    "messages": _capx(
        "guard/asgi/messages",
        "guard/test_asgi_messages",
        "guard/test_asgi_guard",
        "guard/test_asgi_messages_slow_bodies",
    ),
    "private_file": _capx("crypto/private_file", "crypto/test_private_file", "crypto/test_key_file"),
    "background": _capx("background", "test_background", "agent/test_ask_queue"),
    "operation": _capx("api/operation", "api/test_operation", "server/test_operation"),
    "watchdog": _capx("api/watchdog", "api/test_watchdog", "api/test_deadline"),
    "deadline": _capx("api/deadline", "api/test_deadline"),
    "call_facts": _capx("guard/call_facts", "guard/test_call_facts", "guard/test_call_facts_costs", "guard/test_tool"),
    "ask": _capx("verify/ask", "verify/test_ask"),
    "bundle": _capx("tokens/bundle", "tokens/test_bundle"),
    "prediction": _capx("tokens/effective/prediction", "tokens/test_prediction"),
    "effective": _capx("tokens/effective/effective", "tokens/test_effective"),
    "lineage": _capx("tokens/lineage", "tokens/test_lineage"),
    "delegation": _capx("tokens/delegation", "tokens/test_delegation"),
    "rows": _capx("store/sql/rows", "store/test_rows", "store/test_events", "store/test_store"),
    "request_rows": _capx(
        "store/sql/request_rows",
        "store/test_request_rows",
        "store/test_store",
        "authority/test_quotas",
        "authority/test_row_guard",
    ),
    "framework": _capx("agent/framework", "agent/test_framework"),
    "working": _capx("agent/working", "agent/test_working"),
    "closing_act": _capx("tokens/closing_act", "tokens/test_closing_act", "tokens/test_delegation"),
    "judged_call": _capx(
        "guard/judged_call",
        "guard/test_judged_call",
        "guard/test_tool",
        "guard/test_tool_give_back",
        "agent/test_agent",
    ),
    "tool": _capx(
        "guard/tool",
        "guard/test_tool",
        "guard/test_tool_injected",
        "guard/test_tool_give_back",
        "guard/test_observer",
        "agent/test_actor",
        "agent/test_agent",
        "agent/test_next_asks",
    ),
    "judged_function": _capx(
        "guard/judged_function", "guard/test_tool", "guard/test_tool_give_back", "guard/test_argument_copy"
    ),
    "revocations": _capx("resource/revocations", "resource/test_revocations", "resource/test_snapshot"),
    "granting": _capx(
        "authority/requests/granting",
        "authority/test_granting",
        "authority/test_request_state",
        "authority/test_consent",
        "authority/test_verdict",
    ),
    "answers": _capx("authority/requests/answers", "authority/test_answers", "authority/test_call_approvals_edges"),
    "ask_evidence": _capx("authority/requests/ask_evidence", "authority/test_ask_evidence"),
    "asks": _capx("proof/asks", "proof/test_asks", "authority/test_ask_evidence", "attacks/test_operator_lies"),
    "recorded": _capx("proof/recorded", "proof/test_recorded", "store/test_events"),
    "offering": _capx("authority/requests/offering", "authority/test_offering", "authority/test_granting"),
    "events": _capx(
        "store/events",
        "store/test_events",
        "store/test_store_give_back",
        "authority/test_granting",
        "authority/test_agent_keys",
        "authority/test_archiving",
    ),
    "version": _capx("store/sql/version", "store/test_version"),
    "decision_query": _capx("store/decision_query", "store/test_decision_query"),
    "decision_groups": _capx(
        "store/decision_groups",
        "store/test_decision_groups",
        "store/test_call_page",
        "authority/test_graph",
        "authority/test_history",
    ),
    "call_page": _capx("store/call_page", "store/test_call_page"),
    "terms": _capx("policy/terms", "policy/test_terms", "policy/test_policy"),
    "charging": _capx("authority/charging", "authority/test_charging"),
    "uses": _capx("authority/uses", "authority/test_uses"),
    "spending": _capx("verify/spending", "verify/test_spending", "verify/test_spending_give_back", "verify/test_meter"),
    "next_asks": _capx(
        "agent/next_asks", "agent/test_next_asks", "agent/test_httpx_client_asks", "verify/test_suggestion"
    ),
    "pins": _capx("tokens/pins", "tokens/test_pins", "verify/test_ask", "attacks/test_pins"),
    "suggestion": _capx("verify/suggestion", "verify/test_suggestion"),
    "inquiry": _capx(
        "authority/requests/inquiry",
        "authority/test_inquiry",
        "authority/test_uses",
        "authority/test_approvers_demanded",
        "authority/test_call_approvals",
        "authority/test_call_approvals_edges",
        "authority/test_inquiry_approvals",
        "attacks/test_pins",
        "attacks/test_approvals",
    ),
    "lookalikes": _capx("authority/requests/lookalikes", "authority/test_lookalikes"),
    "outdated": _capx("authority/requests/outdated", "authority/test_outdated"),
    "request_state": _capx(
        "authority/requests/request_state", "authority/test_request_state", "authority/test_verdict"
    ),
    "context_block": _capx("agent/context_block", "agent/test_context_block", "agent/test_actor"),
    "actor": _capx("agent/actor", "agent/test_actor", "attacks/test_who_acts"),
    "unfinished_work": _capx("agent/unfinished_work", "agent/test_unfinished_work", "attacks/test_who_acts"),
    "call_asks": _capx("agent/call_asks", "agent/test_call_asks", "agent/test_next_asks"),
    "unproven_grants": _capx("agent/unproven_grants", "agent/test_unproven_grants"),
    "guarded_function": _capx("tokens/guarded_function", "tokens/test_guarded_function", "attacks/test_who_acts"),
    "argument_sources": _capx(
        "guard/fastapi/argument_sources",
        "guard/test_argument_sources",
        "guard/test_endpoint",
        "guard/test_defaults_computed",
    ),
    "endpoint": _capx(
        "guard/fastapi/endpoint",
        "guard/test_endpoint_facts",
        "guard/test_endpoint",
        "guard/test_guarded_request_large",
        "guard/test_deferred",
        "guard/test_denied_arguments",
        "guard/test_inputs",
        "guard/test_routes",
    ),
    "model_values": _capx(
        "guard/fastapi/model_values",
        "guard/test_model_values",
        "guard/test_argument_sources",
        "guard/test_defaults_computed",
    ),
    "json_values": _capx(
        "guard/json_values", "guard/test_json_values", "guard/test_model_values", "guard/test_endpoint"
    ),
    "replay": _capx("resource/replay", "resource/test_replay"),
    "report_client": _capx("resource/report_client", "resource/test_report_client", "server/test_resources"),
    "opening": _capx(
        "authority/opening", "authority/test_opening", "authority/test_intent_use", "authority/test_granting"
    ),
    "key_file": _capx("crypto/key_file", "crypto/test_key_file", "crypto/test_keys", "intents/test_principal_key"),
    "toml_reader": _capx("policy/toml_reader", "policy/test_toml_reader", "policy/test_tables"),
    "grant_tables": _capx(
        "policy/grant_tables", "policy/test_grant_tables", "policy/test_tables", "policy/test_policy"
    ),
    "token_output": Room("cli/capx_cli/token_output.py", ("tests/cli/test_token_output.py",)),
    "boxes": _capx("crypto/boxes", "crypto/test_boxes"),
    "approval_caveat": _capx("tokens/approval_caveat", "tokens/test_approval_caveat", "tokens/test_approving"),
    "discharge": _capx("tokens/discharge", "tokens/test_discharge", "tokens/test_approval"),
    "approval": _capx("tokens/approval", "tokens/test_approval", "verify/test_approvals"),
    "approval_request": _capx("tokens/approval_request", "tokens/test_approval_request", "tokens/test_approving"),
    "approving": _capx("tokens/approving", "tokens/test_approving"),
    "held_approvals": _capx("tokens/held_approvals", "tokens/test_held_approvals"),
    "approvals": _capx("verify/approvals", "verify/test_approvals"),
    "call_approvals": _capx(
        "authority/requests/call_approvals", "authority/test_call_approvals", "authority/test_call_approvals_edges"
    ),
    "view": Room("cli/capx_cli/view.py", ("tests/cli/test_view.py",)),
    "gate": _capx("guard/mcp/gate", "guard/test_gate", "guard/test_functions", "guard/test_requested_call"),
    "requested_call": _capx("guard/mcp/requested_call", "guard/test_requested_call", "guard/test_gate"),
    "closed_params": _capx("guard/mcp/closed_params", "guard/test_closed_params", "guard/test_gate"),
    "arguments": _capx("guard/mcp/arguments", "guard/test_arguments"),
    "member_names": _capx("guard/mcp/member_names", "guard/test_member_names"),
    "table": _capx("guard/mcp/table", "guard/test_table"),
    "definitions": _capx("guard/mcp/definitions", "guard/test_definitions"),
    "tool_list": _capx("guard/mcp/tool_list", "guard/test_tool_list"),
    "functions": _capx("guard/mcp/functions", "guard/test_functions"),
    "server_middleware": _capx("guard/mcp/server_middleware", "guard/test_server_middleware", "guard/test_functions"),
    "http_messages": _capx("guard/mcp/http_messages", "guard/test_http_messages"),
    "slots": _capx("guard/mcp/slots", "guard/test_slots"),
    "jsonrpc": _capx("api/jsonrpc", "api/test_jsonrpc"),
    "mcp_messages": _capx("api/mcp_messages", "api/test_mcp_messages"),
    "relay": _capx("api/relay/relay", "api/test_relay"),
    "lines": _capx("api/relay/lines", "api/test_lines"),
    "event_stream": _capx("api/relay/event_stream", "api/test_event_stream"),
    "http_headers": _capx("api/relay/http_headers", "api/test_http_headers"),
    "streams": _capx("api/relay/streams", "api/test_streams"),
    "presented_call": _capx(
        "agent/presented_call",
        "agent/test_presented_call",
        "agent/test_presented_request",
        "agent/test_httpx_client",
        "agent/test_httpx_client_asks",
        "agent/test_call_asks_approvals",
    ),
    "mcp_presenter": _capx("agent/mcp_presenter", "agent/test_mcp_presenter"),
    "mcp_request": _capx("agent/mcp_request", "agent/test_mcp_request"),
    "http_library": _capx("agent/http_library", "agent/test_http_library"),
    "redirected": _capx("agent/redirected", "agent/test_redirected"),
}
