"""A FHIR server of the deployment test's own, on loopback: searches by time, counts, pages and histories of types.

It knows what a synchronization asks for and nothing else. Each request must have the bearer token.
"""

import json
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

# Small, so that a window has many pages.
PAGE = 7
TYPES = ("Patient", "Observation")


def instant() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FhirServer:
    """The server and its content, as a context manager."""

    def __init__(self, token: str) -> None:
        self.token = token
        # Each version: type, id, time, resource or None for a deletion.
        self.versions: list[tuple[str, str, str, dict | None]] = []
        self.rejected = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = server.answer(self.path, self.headers.get("Authorization"))
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/fhir+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(timestamp, usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}/fhir"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()

    def __enter__(self) -> "FhirServer":
        return self

    def put(self, kind: str, name: str, **members: object) -> None:
        """Creates or changes a resource."""
        with self.lock:
            number = sum(version[:2] == (kind, name) for version in self.versions) + 1
            meta = {"versionId": str(number), "lastUpdated": instant()}
            resource = {"resourceType": kind, "id": name, "meta": meta, **members}
            self.versions.append((kind, name, meta["lastUpdated"], resource))

    def delete(self, kind: str, name: str) -> None:
        with self.lock:
            self.versions.append((kind, name, instant(), None))

    def current(self) -> dict[tuple[str, str], dict]:
        """Returns the current resources by type and id."""
        with self.lock:
            newest = {version[:2]: version[3] for version in self.versions}
        return {key: resource for key, resource in newest.items() if resource}

    def answer(self, target: str, authorization: str | None) -> tuple[int, dict]:
        if authorization != f"Bearer {self.token}":
            self.rejected += 1
            return 401, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "login"}]}
        url = urlsplit(target)
        path, query = url.path.removeprefix("/fhir/"), parse_qsl(url.query)
        if path == "metadata":
            return 200, capability_statement()
        kind, _, rest = path.partition("/")
        if kind in TYPES and rest == "":
            return 200, self.search(kind, query)
        if kind in TYPES and rest == "_history":
            return 200, self.history(kind, query)
        return 404, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}

    def search(self, kind: str, query: list[tuple[str, str]]) -> dict:
        found = [resource for (of_kind, _), resource in self.current().items() if of_kind == kind]
        for value in (value for name, value in query if name == "_lastUpdated"):
            keep = {"ge": lambda at, limit: at >= limit, "lt": lambda at, limit: at < limit}[value[:2]]
            found = [resource for resource in found if keep(resource["meta"]["lastUpdated"], value[2:])]
        if ("_summary", "count") in query:
            return {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        found.sort(key=lambda resource: (resource["meta"]["lastUpdated"], resource["id"]))
        entries = [{"fullUrl": f"{self.base}/{kind}/{resource['id']}", "resource": resource, "search": {"mode": "match"}}
                   for resource in found]
        return self.page("searchset", f"{kind}", entries, query)

    def history(self, kind: str, query: list[tuple[str, str]]) -> dict:
        since = dict(query).get("_since", "")
        with self.lock:
            versions = [version for version in reversed(self.versions) if version[0] == kind and version[2] >= since]
        entries = []
        for _, name, at, resource in versions:
            method = "PUT" if resource else "DELETE"
            entry = {"request": {"method": method, "url": f"{kind}/{name}"}, "response": {"status": "200", "lastModified": at}}
            entries.append({**entry, "resource": resource} if resource else entry)
        return self.page("history", f"{kind}/_history", entries, query)

    def page(self, bundle: str, path: str, entries: list[dict], query: list[tuple[str, str]]) -> dict:
        """Returns a page, and a link to the next one that a client cannot make up."""
        start = int(dict(query).get("page-token", "0"))
        others = "&".join(f"{name}={value}" for name, value in query if name != "page-token")
        end = start + PAGE
        link = [{"relation": "next", "url": f"{self.base}/{path}?{others}&page-token={end}"}] if end < len(entries) else []
        return {"resourceType": "Bundle", "type": bundle, "link": link, "entry": entries[start:end]}


def capability_statement() -> dict:
    interactions = [{"code": code} for code in ("read", "search-type", "history-type")]
    resources = [{"type": kind, "interaction": interactions, "searchParam": [{"name": "_lastUpdated", "type": "date"}]} for kind in TYPES]
    return {"resourceType": "CapabilityStatement", "status": "active", "kind": "instance", "fhirVersion": "4.0.1",
            "rest": [{"mode": "server", "resource": resources}]}
