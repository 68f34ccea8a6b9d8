"""The second act: what clients and an operator rely on where clients show tokens (AccessMode smart, the default)."""

import collections
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from botocore.credentials import Credentials

from signed_http import Reply
from smart import Party, Smart
from stage import ASKS, OPEN, SHUT, expect, expect_absent, expect_outcome, expect_record, expect_sound_records

AT_ONCE = 6


def it_is_shut_before_a_client_is_registered(smart: Smart) -> None:
    api = smart.stack.client("apigatewayv2")
    routes = {route["RouteKey"] for route in api.get_routes(ApiId=smart.stack.resources["HttpApi"])["Items"]}
    expect(OPEN | {"POST /token"} <= routes, f"what is open is there: {routes}")
    expect(len(routes) == len(OPEN) + 1 + len(SHUT), f"all others are tried: {routes}")
    # Not even the account's own root comes in: AWS knows it, and this service does not.
    for signer in (None, Credentials("test", "test")):
        for method, path in SHUT:
            reply = smart.http.send(method, smart.stack.endpoint + path, ASKS, signer)
            expect(reply.status == 401, f"{method} {path} without a token answers 401, not {reply}")
            expect((reply.headers["WWW-Authenticate"] or "").startswith("Bearer"), f"{method} {path} says what is missing")
            if method != "HEAD":
                expect_outcome(reply)
    stranger = smart.party("stranger")
    expect_no_token(smart.show(stranger.assertion(smart.token_url), "system/*.rs"), 401, "invalid_client")


def expect_no_token(reply: Reply, status: int, error: str) -> None:
    expect(reply.status == status and reply.json().get("error") == error, f"{status} {error}, not {reply.status}")


def a_client_finds_the_token_endpoint(smart: Smart) -> None:
    reply = smart.send("GET", f"{smart.base}/.well-known/smart-configuration")
    expect(reply.status == 200, f"the SMART configuration: {reply}")
    expect(reply.json()["token_endpoint"] == smart.token_url == f"{smart.base}/token", f"names it: {reply}")


def a_registered_client_exports_with_the_program(smart: Smart) -> None:
    """Keys, registration and export as the documentation says it, over the operator's own domain."""
    for algorithm in ("ES384", "RS384"):
        party = smart.party(f"lab-{algorithm}", algorithm)
        smart.register(party, "system/*.rs")
        out = smart.cloud.folder / "out" / party.name
        smart.program.run("export", smart.base, out, "--client-id", party.name, "--client-key", party.key_file)
        lines = collections.Counter(
            line for file in out.rglob("*.ndjson") for line in file.read_bytes().splitlines() if line.strip())
        missing, extra = smart.lines - lines, lines - smart.lines
        expect(not missing and not extra, f"{missing.total()} lines are missing, {extra.total()} too many")


def a_client_gets_no_more_than_its_scopes(smart: Smart) -> None:
    narrow = smart.party("narrow")
    smart.register(narrow, "system/Patient.rs")
    expect_no_token(smart.show(narrow.assertion(smart.token_url), "system/Observation.rs"), 400, "invalid_scope")
    granted = smart.token(narrow)
    expect(granted["scope"] == "system/Patient.rs", f"of all that was asked for it gets its own: {granted['scope']}")
    reply = smart.ask("GET", f"{smart.base}/$export?_type=Observation", granted["access_token"])
    expect(reply.status == 403, f"another type answers 403, not {reply}")
    expect('error="insufficient_scope"' in (reply.headers["WWW-Authenticate"] or ""), "and says that the scope is too narrow")
    expect_outcome(reply)
    reply = smart.ask("GET", f"{smart.base}/$export?_type=Patient", granted["access_token"])
    expect(reply.status == 202, f"its own type answers 202, not {reply}")
    job = reply.headers["Content-Location"] or ""
    expect(job.startswith(f"{smart.base}/_operations/export/"), f"Content-Location begins with BaseUrl: {job}")
    # Whoever may read everything still sees nothing of another client's export.
    other = smart.party("other")
    smart.register(other, "system/*.rs")
    token = smart.token(other)["access_token"]
    for method in ("GET", "DELETE"):
        reply = smart.ask(method, job, token)
        expect(reply.status == 404, f"{method} of another client's export answers 404, not {reply}")
    reply = smart.ask("DELETE", job, granted["access_token"])
    expect(reply.status == 202, f"its own client takes it back: {reply}")


def a_token_that_was_tampered_with_is_none(smart: Smart) -> None:
    party = registered(smart, "tampered")
    head, claims, signature = smart.token(party)["access_token"].split(".")
    for forged in (f"{head}.{claims}.{signature[:-8]}AAAAAAAA", f"{head}.{claims}.", party.assertion(smart.token_url)):
        reply = smart.ask("GET", f"{smart.base}/_operations/export", forged)
        expect(reply.status == 401, f"answers 401, not {reply.status}")
        expect('error="invalid_token"' in (reply.headers["WWW-Authenticate"] or ""), "and says that the token is not valid")


def registered(smart: Smart, name: str) -> Party:
    party = smart.party(name)
    smart.register(party, "system/*.rs")
    return party


def an_assertion_counts_once_whichever_instance_sees_it(smart: Smart) -> None:
    party = registered(smart, "replayed")
    smart.start_anew("TokenFunction")
    before = starts(smart)
    assertion = party.assertion(smart.token_url)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(lambda _: smart.show(assertion, "system/*.rs"), range(AT_ONCE)))
    statuses = collections.Counter(reply.status for reply in replies)
    expect(statuses == {200: 1, 401: AT_ONCE - 1}, f"one of {AT_ONCE} at once gets a token: {statuses}")
    # None of those instances is left that could remember it.
    smart.start_anew("TokenFunction")
    reply = smart.show(assertion, "system/*.rs")
    expect_no_token(reply, 401, "invalid_client")
    expect("was used before" in reply.json()["error_description"], f"and says why: {reply}")
    expect(starts(smart) >= before + 2, "more than one instance has seen it")
    for given in replies:
        if given.status == 200:
            smart.secrets.append(given.json()["access_token"])


def starts(smart: Smart) -> int:
    """How many instances of the token function have begun."""
    lines = [json.loads(line) for line in smart.stack.logs("Token").splitlines() if line.startswith("{")]
    return sum(1 for line in lines if line.get("message") == "started")


def who_is_shut_out_is_out_at_the_next_request(smart: Smart) -> None:
    party = registered(smart, "leaver")
    token = smart.token(party)["access_token"]
    expect(smart.ask("GET", f"{smart.base}/_operations/export", token).status == 200, "it is in")
    smart.program.run("clients", "disable", party.name, "--table", smart.table)
    reply = smart.ask("GET", f"{smart.base}/_operations/export", token)
    expect(reply.status in (401, 403), f"with a token that has not ended it is out: {reply}")
    expect_no_token(smart.show(party.assertion(smart.token_url), "system/*.rs"), 401, "invalid_client")


def what_was_done_is_sealed_for_auditors(smart: Smart) -> None:
    """By the reaper, on its schedule."""
    for deed in ("token", "kick-off", "complete", "hand-out"):
        expect_record(smart, deed, "done", "--client", "lab-ES384")
    for deed in ("token", "kick-off"):
        expect_record(smart, deed, "refused", "--client", "narrow")
    expect_record(smart, "cancel", "done", "--client", "narrow")
    expect_record(smart, "token", "refused", "--client", "replayed")
    expect_sound_records(smart)


def the_policies_suffice_and_the_logs_keep_silent(smart: Smart) -> None:
    logs = smart.stack.logs()
    expect(starts(smart) > 0, "the token function has logged")
    line = next(iter(smart.lines)).decode()
    for word in ("AccessDenied", "not authorized to perform", "X-Amz-Signature", line, *smart.secrets):
        expect_absent(logs, word)


TESTS: list[Callable[[Smart], None]] = [
    it_is_shut_before_a_client_is_registered,
    a_client_finds_the_token_endpoint,
    a_registered_client_exports_with_the_program,
    a_client_gets_no_more_than_its_scopes,
    a_token_that_was_tampered_with_is_none,
    an_assertion_counts_once_whichever_instance_sees_it,
    who_is_shut_out_is_out_at_the_next_request,
    what_was_done_is_sealed_for_auditors,
    the_policies_suffice_and_the_logs_keep_silent,
]
