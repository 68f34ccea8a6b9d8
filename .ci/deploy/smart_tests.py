"""Tests of a deployment with access tokens (AccessMode smart, the default)."""

import collections
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from botocore.credentials import Credentials

from signed_http import Reply
from smart import ClientKey, Smart
from stage import KICK_OFF_HEADERS, PUBLIC_ROUTES, SIGNED_REQUESTS, expect, expect_absent, expect_outcome, expect_record, expect_sound_records

CONCURRENT_REQUESTS = 6


def without_registered_clients_every_request_is_rejected(smart: Smart) -> None:
    api = smart.stack.client("apigatewayv2")
    routes = {route["RouteKey"] for route in api.get_routes(ApiId=smart.stack.resources["HttpApi"])["Items"]}
    expect(PUBLIC_ROUTES | {"POST /token"} <= routes, f"the public routes exist: {routes}")
    expect(len(routes) == len(PUBLIC_ROUTES) + 1 + len(SIGNED_REQUESTS), f"all other routes are tested: {routes}")
    # The root user of the account is rejected as well: AWS signatures are not accepted in this mode.
    for signer in (None, Credentials("test", "test")):
        for method, path in SIGNED_REQUESTS:
            reply = smart.http.send(method, smart.stack.endpoint + path, KICK_OFF_HEADERS, signer)
            expect(reply.status == 401, f"{method} {path} without a token answers 401, not {reply}")
            expect((reply.headers["WWW-Authenticate"] or "").startswith("Bearer"), f"{method} {path} names the authentication scheme")
            if method != "HEAD":
                expect_outcome(reply)
    stranger = smart.new_client("stranger")
    expect_no_token(smart.request_token(stranger.assertion(smart.token_url), "system/*.rs"), 401, "invalid_client")


def expect_no_token(reply: Reply, status: int, error: str) -> None:
    expect(reply.status == status and reply.json().get("error") == error, f"{status} {error}, not {reply.status}")


def a_client_finds_the_token_endpoint(smart: Smart) -> None:
    reply = smart.send("GET", f"{smart.base}/.well-known/smart-configuration")
    expect(reply.status == 200, f"the SMART configuration: {reply}")
    expect(reply.json()["token_endpoint"] == smart.token_url == f"{smart.base}/token", f"it names the token endpoint: {reply}")


def a_registered_client_exports_with_the_program(smart: Smart) -> None:
    """Creates keys, registers a client and exports as documented, over the operator's own domain."""
    for algorithm in ("ES384", "RS384"):
        client = smart.new_client(f"lab-{algorithm}", algorithm)
        smart.register(client, "system/*.rs")
        out = smart.cloud.folder / "out" / client.name
        smart.program.run("export", smart.base, out, "--client-id", client.name, "--client-key", client.key_file)
        lines = collections.Counter(
            line for file in out.rglob("*.ndjson") for line in file.read_bytes().splitlines() if line.strip())
        missing, extra = smart.lines - lines, lines - smart.lines
        expect(not missing and not extra, f"{missing.total()} lines are missing, {extra.total()} too many")


def a_client_gets_no_more_than_its_scopes(smart: Smart) -> None:
    narrow = smart.new_client("narrow")
    smart.register(narrow, "system/Patient.rs")
    expect_no_token(smart.request_token(narrow.assertion(smart.token_url), "system/Observation.rs"), 400, "invalid_scope")
    granted = smart.token(narrow)
    expect(granted["scope"] == "system/Patient.rs", f"it gets only its registered scopes: {granted['scope']}")
    reply = smart.ask("GET", f"{smart.base}/$export?_type=Observation", granted["access_token"])
    expect(reply.status == 403, f"another type answers 403, not {reply}")
    expect('error="insufficient_scope"' in (reply.headers["WWW-Authenticate"] or ""), "and names the insufficient scope")
    expect_outcome(reply)
    reply = smart.ask("GET", f"{smart.base}/$export?_type=Patient", granted["access_token"])
    expect(reply.status == 202, f"its own type answers 202, not {reply}")
    job = reply.headers["Content-Location"] or ""
    expect(job.startswith(f"{smart.base}/_operations/export/"), f"Content-Location begins with BaseUrl: {job}")
    # A client with all scopes has no access to another client's export.
    other = smart.new_client("other")
    smart.register(other, "system/*.rs")
    token = smart.token(other)["access_token"]
    for method in ("GET", "DELETE"):
        reply = smart.ask(method, job, token)
        expect(reply.status == 404, f"{method} of another client's export answers 404, not {reply}")
    reply = smart.ask("DELETE", job, granted["access_token"])
    expect(reply.status == 202, f"its own client can cancel it: {reply}")


def a_forged_token_is_rejected(smart: Smart) -> None:
    client = registered(smart, "tampered")
    head, claims, signature = smart.token(client)["access_token"].split(".")
    for forged in (f"{head}.{claims}.{signature[:-8]}AAAAAAAA", f"{head}.{claims}.", client.assertion(smart.token_url)):
        reply = smart.ask("GET", f"{smart.base}/_operations/export", forged)
        expect(reply.status == 401, f"answers 401, not {reply.status}")
        expect('error="invalid_token"' in (reply.headers["WWW-Authenticate"] or ""), "and names the invalid token")


def registered(smart: Smart, name: str) -> ClientKey:
    client = smart.new_client(name)
    smart.register(client, "system/*.rs")
    return client


def an_assertion_can_be_used_once_over_all_instances(smart: Smart) -> None:
    client = registered(smart, "replayed")
    smart.restart("TokenFunction")
    before = starts(smart)
    assertion = client.assertion(smart.token_url)
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        replies = list(pool.map(lambda _: smart.request_token(assertion, "system/*.rs"), range(CONCURRENT_REQUESTS)))
    statuses = collections.Counter(reply.status for reply in replies)
    expect(statuses == {200: 1, 401: CONCURRENT_REQUESTS - 1}, f"one of {CONCURRENT_REQUESTS} concurrent requests gets a token: {statuses}")
    # A new instance must know the assertion from the table.
    smart.restart("TokenFunction")
    reply = smart.request_token(assertion, "system/*.rs")
    expect_no_token(reply, 401, "invalid_client")
    expect("was used before" in reply.json()["error_description"], f"and names the reason: {reply}")
    expect(starts(smart) >= before + 2, "more than one instance got it")
    for accepted in replies:
        if accepted.status == 200:
            smart.secrets.append(accepted.json()["access_token"])


def starts(smart: Smart) -> int:
    """Returns the number of started instances of the token function."""
    lines = [json.loads(line) for line in smart.stack.logs("Token").splitlines() if line.startswith("{")]
    return sum(1 for line in lines if line.get("message") == "started")


def a_disabled_client_is_rejected_at_its_next_request(smart: Smart) -> None:
    client = registered(smart, "leaver")
    token = smart.token(client)["access_token"]
    expect(smart.ask("GET", f"{smart.base}/_operations/export", token).status == 200, "the token is accepted")
    smart.program.run("clients", "disable", client.name, "--table", smart.table)
    reply = smart.ask("GET", f"{smart.base}/_operations/export", token)
    expect(reply.status in (401, 403), f"its unexpired token is rejected: {reply}")
    expect_no_token(smart.request_token(client.assertion(smart.token_url), "system/*.rs"), 401, "invalid_client")


def audit_records_are_sealed(smart: Smart) -> None:
    """The reaper seals them on its schedule."""
    for action in ("token", "kick-off", "complete", "download"):
        expect_record(smart, action, "succeeded", "--client", "lab-ES384")
    for action in ("token", "kick-off"):
        expect_record(smart, action, "rejected", "--client", "narrow")
    expect_record(smart, "cancel", "succeeded", "--client", "narrow")
    expect_record(smart, "token", "rejected", "--client", "replayed")
    expect_sound_records(smart)


def the_policies_suffice_and_the_logs_contain_no_secrets(smart: Smart) -> None:
    logs = smart.stack.logs()
    expect(starts(smart) > 0, "the token function has logged")
    line = next(iter(smart.lines)).decode()
    for word in ("AccessDenied", "not authorized to perform", "X-Amz-Signature", line, *smart.secrets):
        expect_absent(logs, word)


TESTS: list[Callable[[Smart], None]] = [
    without_registered_clients_every_request_is_rejected,
    a_client_finds_the_token_endpoint,
    a_registered_client_exports_with_the_program,
    a_client_gets_no_more_than_its_scopes,
    a_forged_token_is_rejected,
    an_assertion_can_be_used_once_over_all_instances,
    a_disabled_client_is_rejected_at_its_next_request,
    audit_records_are_sealed,
    the_policies_suffice_and_the_logs_contain_no_secrets,
]
