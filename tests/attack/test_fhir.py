"""Scope attacks on the FHIR door: six principals, hundreds of request forms, no leak."""

from __future__ import annotations

import json
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest

from access import Scopes, TokenAuthority
from hilum.processes.fhir_store import HapiServer, command, environment, prepare_database
from tests.attack.fhir_forms import Attempt, attempts, places
from tests.attack.oracle import SHARED, Principal, World, principals, resources_in
from tests.fixtures.gateway import gateway_config, serving
from tests.fixtures.stores import CACHE, RunningHapi, client_of, free_port, hapi_config
from tests.fixtures.two_patients import OnePatient, load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGES = 4
NOBODY = OnePatient(*["no-such-" + str(uuid.uuid4())] * len(OnePatient.__annotations__))


@dataclass
class Found:
    """What the attacks of one principal came to."""

    sent: int = 0
    answered: int = 0
    leaks: list[str] = field(default_factory=list)


class Attack:
    """Sends the forms of one principal and looks at every answer."""

    def __init__(self, door, authority, principal: Principal, world: World, stranger) -> None:
        token = authority.mint(
            subject=principal.name,
            scope=principal.scope,
            lifetime_s=3600,
            context=principal.context,
        )
        self.client = httpx.Client(
            base_url=door + "/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"},
            timeout=120,
            trust_env=False,
        )
        self.principal, self.world, self.found = principal, world, Found()
        self.stranger = stranger
        self.hidden = {
            word: key
            for key, resource in world.resources.items()
            if not principal.sees(resource, world)
            for word in world.words(key)
        }

    def send(self, attempt: Attempt) -> httpx.Response:
        body, told = attempt.body, {}
        if body is not None:
            told["content"] = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.found.sent += 1
        for _ in range(3):
            answer = self.client.request(
                attempt.method, attempt.path, headers=attempt.headers, **told
            )
            if answer.status_code != 503:  # a busy machine: an answer has to be looked at
                break
        return answer

    def run(self, attempt: Attempt) -> None:
        answer = self.send(attempt)
        self.look(str(attempt), attempt, answer)

    def look(self, told: str, attempt: Attempt, answer: httpx.Response, page: int = 0) -> None:
        self.found.answered += answer.status_code < 400
        if answer.status_code >= 500:
            self.leak(told, answer, f"HTTP {answer.status_code}")
        echoed = json.dumps(attempt.body) + attempt.path
        text = answer.text + str(dict(answer.headers))
        for word, key in self.hidden.items():
            if word in text and word not in echoed and not self._is_referred(word, answer):
                self.leak(told, answer, f"a word of {key}")
        body = _parsed(answer)
        for resource in resources_in(body):
            if not self.principal.sees(resource, self.world) and not self._is_own_write(resource):
                self.leak(told, answer, f"{resource['resourceType']}/{resource.get('id')}")
        self._count(told, attempt, answer, body)
        if isinstance(body, dict) and answer.status_code == 200 and page < PAGES:
            self._follow(told, attempt, answer, body, page)

    def _is_referred(self, word: str, answer: httpx.Response) -> bool:
        """A resource that may be seen names others: their ids are part of it, and no more."""
        return any(
            word in json.dumps(one)
            for one in resources_in(_parsed(answer))
            if self.principal.sees(one, self.world)
        )

    def _is_own_write(self, resource) -> bool:
        """What a create answers with, before the world knows it."""
        return self.principal.writes and self.world.owner(resource) == self.principal.patient

    def _count(self, told: str, attempt: Attempt, answer: httpx.Response, body) -> None:
        """No number is larger than that of what may be seen."""
        kind = attempt.path.partition("?")[0].partition("/")[0]
        if self.principal.whole or not isinstance(body, dict) or kind in SHARED:
            return
        for bundle in _bundles(body):
            total = bundle.get("total")
            if total is None or bundle.get("type") not in ("searchset", "history"):
                continue
            most = len(self.principal.visible(self.world, kind)) + 20 * self.principal.writes
            if kind and total > most:
                self.leak(told, answer, f"total {total}")

    def _follow(self, told, attempt: Attempt, answer, body, page: int) -> None:
        """Its own page links may be followed, and lead a stranger nowhere."""
        for link in body.get("link", []):
            if link.get("relation") != "next":
                continue
            # A link without a page id is a search like any other, judged by whose token it is.
            held = "_getpages" in link["url"]
            if held and not page and self.stranger.get(link["url"]).status_code != 403:
                self.leak(told, answer, "a page link that others can follow")
            following = self.client.get(link["url"])
            self.found.sent += 1
            self.look(f"{told} (page {page + 2})", attempt, following, page + 1)

    def leak(self, told: str, answer: httpx.Response, why: str) -> None:
        self.found.leaks.append(f"{self.principal.name}: {told}: {answer.status_code}: {why}")


def _parsed(answer: httpx.Response):
    try:
        return answer.json()
    except ValueError:
        return None


def _bundles(body):
    if body.get("resourceType") == "Bundle":
        yield body
        for entry in body.get("entry", []):
            yield from _bundles(entry.get("resource") or {})


def attacked(door, authority, operator, data, wanted=None) -> dict[str, Found]:
    """Send every form of every principal; what each came to."""
    world = World(_loaded(operator, data))
    token = authority.mint(subject="stranger", scope="system/*.rs", lifetime_s=3600)
    stranger = httpx.Client(
        headers={"Authorization": f"Bearer {token}"},
        timeout=120,
        trust_env=False,
    )
    results = {}
    for principal in principals(data.anna.patient, data.bert.patient):
        if wanted and principal.name not in wanted:
            continue
        attack = Attack(door, authority, principal, world, stranger)
        own = [a for a in attempts(data, data.anna, 1) if not a.writes]
        foreign = [a for a in attempts(data, data.bert, 2) if not a.writes]
        nothing = [a for a in attempts(data, NOBODY, 3) if not a.writes][:40]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(attack.run, own + foreign + nothing))
        # Writes come last, to a patient that this principal may not write to.
        victim = data.anna if principal.writes else data.bert
        for attempt in attempts(data, victim, 4):
            if attempt.writes:
                attack.run(attempt)
        attack.found.leaks += _existence(attack, data)
        attack.client.close()
        results[principal.name] = attack.found
    stranger.close()
    written = [key for key in world.resources if _version(operator, key) != "1"]
    results["writes"] = Found(leaks=[f"{key} was changed" for key in written])
    return results


def _existence(attack: Attack, data) -> list[str]:
    """A resource that may not be seen answers as one that is not there."""
    told = []
    for kind, name in places(data.bert).items():
        resource = attack.world.resources[f"{kind}/{name}"]
        if attack.principal.sees(resource, attack.world):
            continue
        for path in ("", "/_history", "/_history/1"):
            foreign = attack.client.get(f"{kind}/{name}{path}")
            nothing = attack.client.get(f"{kind}/no-such-thing{path}")
            attack.found.sent += 2
            if (foreign.status_code, foreign.text) != (nothing.status_code, nothing.text):
                told.append(f"{attack.principal.name}: {kind}{path} tells that it exists")
    return told


def _loaded(operator, data):
    found = {}
    for one in (data.anna, data.bert):
        kept = dict(places(one))
        keys = [f"{kind}/{name}" for kind, name in kept.items()]
        keys += [f"Observation/{one.image}", f"Observation/{one.scratch}"]
        for key in keys:
            found[key] = operator.get(key, headers={"Accept": "application/fhir+json"}).json()
    for key in (f"Organization/{data.organization}", f"Practitioner/{data.practitioner}"):
        found[key] = operator.get(key).json()
    return found


def _version(operator, key: str) -> str:
    answer = operator.get(key, headers={"Accept": "application/fhir+json"})
    return answer.json().get("meta", {}).get("versionId", "gone")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Makes the authority of a gateway."""
    folder = tmp_path_factory.mktemp("keys")
    return lambda config: TokenAuthority.load_or_create(
        folder, issuer=config.public_url, audience=config.fhir_base
    )


def leaks_of(results) -> list[str]:
    return [leak for found in results.values() for leak in found.leaks]


def test_no_principal_gets_more_than_its_token_grants(hapi, postgres, authority, tmp_path):
    postgres.create_database("attack")
    config = gateway_config(hapi, postgres.dsn("attack"), tmp_path)
    data = load(hapi.client)

    with serving(config, authority(config)) as door:
        results = attacked(door, authority(config), hapi.client, data)

    leaks = leaks_of(results)
    assert leaks == [], "\n".join(leaks[:40])
    for name, found in results.items():
        assert name == "writes" or found.sent >= 300
        assert name == "writes" or found.answered > 10, "an oracle that sees nothing proves nothing"


def test_a_scope_parser_that_ignores_the_filter_is_found(
    hapi, postgres, authority, tmp_path, monkeypatch
):
    postgres.create_database("attack_parser")
    config = gateway_config(hapi, postgres.dsn("attack_parser"), tmp_path)
    data = load(hapi.client)
    right = Scopes.parse.__func__

    def wrong(cls, text):
        return right(cls, " ".join(part.partition("?")[0] for part in text.split()))

    monkeypatch.setattr(Scopes, "parse", classmethod(wrong))
    with serving(config, authority(config)) as door:
        results = attacked(door, authority(config), hapi.client, data, {"granular"})

    assert len(leaks_of(results)) > 10


def test_a_disabled_rule_of_the_store_is_found(postgres, authority, tmp_path, monkeypatch):
    config = hapi_config(postgres, "attack_seeded_fault")
    prepare_database(config, CACHE, tmp_path / "hapi.log")
    monkeypatch.setenv("HILUM_HAPI_SEEDED_FAULT", "compartment")
    server = HapiServer(config, tmp_path / "hapi.log")
    server.start()
    try:
        broken = RunningHapi(config, server, client_of(config), free_port(), tmp_path / "hapi.log")
        postgres.create_database("attack_store")
        door_config = gateway_config(broken, postgres.dsn("attack_store"), tmp_path)
        data = load(broken.client)
        with serving(door_config, authority(door_config)) as door:
            results = attacked(door, authority(door_config), broken.client, data, {"anna's app"})
    finally:
        server.stop()

    assert len(leaks_of(results)) > 10


def test_no_site_starts_with_a_seeded_fault(hapi):
    done = subprocess.run(
        ["/usr/bin/env", *command(hapi.config)],
        env={
            "PATH": "/usr/bin:/bin",
            **environment(hapi.config),
            "HILUM_HAPI_SEEDED_FAULT": "compartment",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 2
    assert "HILUM_HAPI_SEEDED_FAULT" in done.stderr
