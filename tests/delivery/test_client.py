"""HTTP and credentials: every ending is an answer, secrets are read anew, nothing goes where it must not."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from converter.config import load, settings_of
from converter.delivery.address import is_loopback, normalised
from converter.delivery.answers import Answer, decide
from converter.delivery.client import FhirClient
from converter.delivery.destinations import capability, look, resolve
from converter.errors import ConfigurationError, ConverterError
from converter.settings import DestinationSettings
from tests.delivery.made import client
from tests.servers.certificates import certificate, written
from tests.servers.stub import Fault, Stub, outcome

NUMBER = "https://hospital.example/mrn|CANARY-7"


@pytest.fixture
def opened():
    made = []

    def make(base, **settings):
        made.append(client(base, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def test_a_proxy_of_the_environment_is_used_but_for_this_machine(stub, opened, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, stub.base.removesuffix("/fhir"))
    there = DestinationSettings(url="http://fhir.invalid/r4")
    with closing(FhirClient("there", there, allow_http=True)) as speaker:
        speaker.request("GET", "metadata", "metadata")
    assert len(stub.log) == 1
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert opened(stub.base).request("GET", "metadata", "metadata").status == 200


# endings


def test_an_answer_carries_status_headers_and_body(stub, opened):
    answer = opened(stub.base).request("GET", "metadata", "metadata")
    assert (answer.status, answer.fhir, answer.empty) == (200, True, False)
    missing = opened(stub.base).request("GET", "Patient/x", "read")
    assert (missing.status, missing.outcome, decide(missing, "read")) == (404, True, "absent")


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault(delay=1.0), "timeout"),
        (Fault(drop="before"), "broken"),
        (Fault(drop="half"), "broken"),
        (Fault(302, {"Location": "http://127.0.0.1:1/"}), "redirect"),
    ],
)
def test_each_failure_has_its_name(stub, opened, fault, failure):
    stub.fault = lambda asked: fault
    assert opened(stub.base, timeout=0.3).request("PUT", "Patient/x", "put", body=b"{}").failure == failure  # fmt: skip


def test_nobody_there(opened):
    assert opened(f"http://127.0.0.1:{free_port()}/fhir").request("GET", "x", "read").failure == "connect"  # fmt: skip


def test_a_server_that_dribbles_is_left(opened):
    ready = socket.create_server(("127.0.0.1", 0))

    def dribble():
        taken, _ = ready.accept()
        with taken:
            taken.recv(9999)
            taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(40):
                time.sleep(0.05)
                try:
                    taken.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=dribble)
    thread.start()
    began = time.monotonic()
    base = f"http://127.0.0.1:{ready.getsockname()[1]}/fhir"
    assert opened(base, timeout=0.4).request("PUT", "x", "put", body=b"{}").failure == "timeout"
    assert time.monotonic() - began < 1.5
    thread.join()
    ready.close()


def test_a_read_is_tried_again_on_a_closed_connection_and_a_write_is_not(stub, opened):
    stub.fault = lambda asked: Fault(drop="before") if asked.number in {0, 2} else None
    speaker = opened(stub.base)
    assert speaker.request("GET", "metadata", "read").status == 200
    assert speaker.request("PUT", "Patient/x", "put", body=b"{}").failure == "broken"
    assert len(stub.log) == 3


def test_a_redirect_is_not_followed(stub, opened):
    with Stub() as other:
        stub.fault = lambda asked: Fault(307, {"Location": f"{other.base}/Patient/x"})
        answer = opened(stub.base).request("PUT", "Patient/x", "put", body=b"{}")
        assert decide(answer, "put") == "circuit"
        assert other.log == []


def test_asked_to_wait_all_threads_wait(stub, opened):
    stub.fault = lambda asked: Fault(429, {"Retry-After": "30"}, outcome("throttled", "x"))
    speaker = opened(stub.base)
    assert speaker.request("GET", "x", "read").status == 429
    again = speaker.request("GET", "x", "read")
    assert (again.status, 28 <= int(again.headers["retry-after"]) <= 30) == (429, True)
    assert len(stub.log) == 1


def test_nothing_of_a_request_is_logged(stub, opened, caplog):
    with caplog.at_level(logging.DEBUG):
        speaker = opened(stub.base)
        speaker.request("GET", "Patient", "search", params={"identifier": NUMBER})
        stub.fault = lambda asked: Fault(drop="before")
        speaker.request("GET", "Patient", "search", params={"identifier": NUMBER})
    assert "CANARY" not in caplog.text
    assert "Patient" not in caplog.text


# addresses


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("https://FHIR.example:443/r4/", "https://fhir.example/r4"),
        ("HTTP://127.0.0.1:80/fhir", "http://127.0.0.1/fhir"),
        ("http://localhost:8080/fhir///", "http://localhost:8080/fhir"),
        ("http://[::1]:8080/fhir", "http://[::1]:8080/fhir"),
    ],
)
def test_a_base_url_has_one_form(given, made):
    assert normalised(given) == made


@pytest.mark.parametrize(
    "given",
    [
        "http://fhir.example/r4",
        "http://10.0.0.7/fhir",
        "http://127.0.0.1.evil.example/fhir",
        "https://user:hunter2@fhir.example/r4",
        "https://fhir.example/r4?x=1",
        "ftp://fhir.example",
        "https://",
        "https://fhir.example:port/",
    ],
)
def test_what_is_refused_as_a_base_url_tells_no_password(given):
    with pytest.raises(ConfigurationError) as told:
        normalised(given)
    assert "hunter2" not in str(told.value)


def test_plain_http_beyond_this_machine_needs_a_flag():
    assert normalised("http://fhir.example/r4", allow_http=True) == "http://fhir.example/r4"
    assert is_loopback("127.8.9.1")
    assert not is_loopback("128.0.0.1")


def test_names_and_urls_of_to():
    configured = {"main": DestinationSettings(url="https://FHIR.example/r4/", auth="basic")}
    assert list(resolve(["main", "https://fhir.example/r4"], configured)) == ["main"]
    assert list(resolve(["https://x.example/"], configured)) == ["https://x.example"]
    with pytest.raises(ConfigurationError, match="did you mean main"):
        resolve(["mian"], configured)
    with pytest.raises(ConfigurationError, match="allow-http"):
        resolve(["http://x.example/"], configured)
    with pytest.raises(ConfigurationError, match="url"):
        resolve(["bare"], {"bare": DestinationSettings()})


def test_what_a_server_claims(stub, opened):
    def said(**more):
        statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", **more}
        stub.fault = lambda asked: Fault(200, {}, statement)
        return look(opened(stub.base))

    study = {"type": "ImagingStudy", "updateCreate": False}
    assert said() == (False, "", True, ())
    assert said(rest=[{"resource": [study]}]) == (True, "", True, ("Patient",))
    assert said(fhirVersion="5.0.0").wrong_version == "5.0.0"
    assert not said(resourceType="Patient").stated


def test_what_a_server_says_that_it_lacks():
    def lacks(*resources):
        rest = [{"mode": "server", "resource": list(resources)}]
        statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest}
        return capability(Answer(200, body=statement)).lacks

    def kind(name, *words, **more):
        return {"type": name, "interaction": [{"code": word} for word in words], **more}

    patient = kind("Patient", "read", "create", "update")
    study = kind("ImagingStudy", "read", "create", "update", "search-type", "vread")
    assert lacks(patient, study) == ()
    assert lacks() == (), "a server that says nothing of resources is asked by the first study"
    assert lacks(patient) == ("ImagingStudy",)
    assert lacks(patient, kind("ImagingStudy", "read", "create")) == ("search-type, update of ImagingStudy",)  # fmt: skip
    own = {"updateCreate": False, "conditionalCreate": False}
    assert lacks(patient, {**study, **own}) == ("conditional create of ImagingStudy, while it gives ids itself",)  # fmt: skip
    assert lacks(patient, {**study, "conditionalCreate": False}) == ()


# credentials


def seen(stub):
    return [asked.headers.get("authorization") for asked in stub.log if asked.path != "token"]


def test_a_bearer_token_is_read_again_when_its_file_changes(stub, opened, tmp_path):
    file = tmp_path / "token"
    file.write_text("one\n")
    speaker = opened(stub.base, auth="bearer", token_file=str(file))
    speaker.request("GET", "metadata", "read")
    file.write_text("another\n")
    speaker.request("GET", "metadata", "read")
    file.write_text("")
    speaker.request("GET", "metadata", "read")
    assert seen(stub) == ["Bearer one", "Bearer another", "Bearer another"]


def test_basic(stub, opened, tmp_path):
    (tmp_path / "password").write_text("open sesame")
    opened(stub.base, auth="basic", username="me", password_file=str(tmp_path / "password")).request("GET", "metadata", "read")  # fmt: skip
    assert seen(stub) == ["Basic bWU6b3BlbiBzZXNhbWU="]


@pytest.mark.parametrize("way", ["basic", "post"])
def test_client_credentials(stub, opened, tmp_path, way):
    (tmp_path / "secret").write_text("s3cret")
    forms = []
    real = stub.answer

    def answer(asked, data):
        if asked.path == "token":
            forms.append(data.decode())
        return real(asked, data)

    stub.answer = answer
    speaker = opened(
        stub.base, auth="oauth2", token_url=f"{stub.base}/token", client_id="us", client_auth=way,
        client_secret_file=str(tmp_path / "secret"), scope="system/*.cruds", audience="https://a.example",
        resource="https://r.example",
    )  # fmt: skip
    for _ in range(3):
        assert speaker.request("GET", "metadata", "read").status == 200
    assert seen(stub) == ["Bearer token-1"] * 3
    (form,) = forms
    assert "grant_type=client_credentials" in form
    assert "audience=https" in form
    assert "resource=https" in form
    assert ("client_secret=s3cret" in form) == (way == "post")


def test_a_refused_token_is_renewed_once_and_then_it_is_a_circuit(stub, opened, tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    speaker = opened(stub.base, auth="oauth2", token_url=f"{stub.base}/token", client_id="us", client_secret_file=str(tmp_path / "secret"))  # fmt: skip
    stub.fault = lambda asked: Fault(401, {}, outcome("login", "x")) if asked.headers.get("authorization") == "Bearer token-1" else None  # fmt: skip
    assert speaker.request("GET", "metadata", "read").status == 200
    assert stub.tokens_given == 2
    stub.fault = lambda asked: Fault(401, {}, outcome("login", "x")) if asked.path != "token" else None  # fmt: skip
    assert decide(speaker.request("GET", "metadata", "read"), "read") == "renew"
    assert stub.tokens_given == 3


def test_no_token_is_a_circuit_and_a_broken_endpoint_is_not(stub, opened, tmp_path):
    (tmp_path / "secret").write_text("s3cret")

    def speaker():
        return opened(stub.base, auth="oauth2", token_url=f"{stub.base}/token", client_id="us", client_secret_file=str(tmp_path / "secret"))  # fmt: skip

    stub.fault = lambda asked: Fault(400, {}, {"error": "invalid_client"})
    assert decide(speaker().request("GET", "metadata", "read"), "read") == "circuit"
    stub.fault = lambda asked: Fault(503)
    assert decide(speaker().request("GET", "metadata", "read"), "read") == "again"


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({"access_token": {"a": "b"}}, "circuit"),
        ({"access_token": 7}, "circuit"),
        ({"access_token": "x" * (1 << 20)}, "again"),
    ],
)
def test_what_is_no_token_is_sent_to_nobody(stub, opened, tmp_path, given, then):
    (tmp_path / "secret").write_text("s3cret")
    speaker = opened(stub.base, auth="oauth2", token_url=f"{stub.base}/token", client_id="us", client_secret_file=str(tmp_path / "secret"))  # fmt: skip
    stub.fault = lambda asked: Fault(200, {}, given) if asked.path == "token" else None
    assert decide(speaker.request("GET", "metadata", "read"), "read") == then
    assert {asked.path for asked in stub.log} == {"token"}


def test_a_token_endpoint_that_dribbles_is_left(opened, tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as ready:

        def dribble():
            while not over.is_set():
                taken, _ = ready.accept()
                with taken:
                    taken.recv(9999)
                    taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    try:
                        while not over.wait(0.05):
                            taken.sendall(b" ")
                    except OSError:
                        pass

        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{ready.getsockname()[1]}"
        speaker = opened(base, auth="oauth2", token_url=f"{base}/token", client_id="us", client_secret_file=str(tmp_path / "secret"), timeout=0.3)  # fmt: skip
        began = time.monotonic()
        assert decide(speaker.request("GET", "metadata", "read"), "read") == "again"
        assert time.monotonic() - began < 3
        over.set()
        socket.create_connection(ready.getsockname()).close()
        thread.join()


def test_a_token_endpoint_that_others_can_listen_to_gets_nothing(stub, opened, tmp_path):
    """The server names it, so nobody could look at it before."""
    key = ECKey.generate_key("P-384")
    (tmp_path / "key").write_bytes(key.as_pem(private=True))
    real = stub.answer

    def answer(asked, data):
        if asked.path == ".well-known/smart-configuration":
            return 200, {}, {"token_endpoint": "http://192.0.2.1/token"}
        return real(asked, data)

    stub.answer = answer
    speaker = opened(stub.base, auth="smart", client_id="us", key_file=str(tmp_path / "key"))
    began = time.monotonic()
    assert decide(speaker.request("GET", "metadata", "read"), "read") == "circuit"
    assert time.monotonic() - began < 3, "it was asked"


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_smart_backend_services(stub, opened, tmp_path, algorithm, form):
    key = RSAKey.generate_key(2048) if algorithm == "RS384" else ECKey.generate_key("P-384")
    file = tmp_path / "key"
    if form == "pem":
        file.write_bytes(key.as_pem(private=True))
    else:
        import json

        file.write_text(json.dumps({"keys": [{**key.as_dict(private=True), "kid": "k1"}]}))
    forms = []
    real = stub.answer

    def answer(asked, data):
        if asked.path == ".well-known/smart-configuration":
            return 200, {}, {"token_endpoint": f"{stub.base}/token"}
        if asked.path == "token":
            forms.append(dict(pair.split("=", 1) for pair in data.decode().split("&")))
        return real(asked, data)

    stub.answer = answer
    speaker = opened(stub.base, auth="smart", client_id="us", key_file=str(file), key_id="k1")
    assert speaker.request("GET", "metadata", "read").status == 200
    signed = jwt.decode(forms[0]["client_assertion"], key, algorithms=[algorithm])
    assert signed.header["kid"] == "k1"
    assert signed.header["alg"] == algorithm
    claims = signed.claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("us", "us", f"{stub.base}/token")
    assert 0 < claims["exp"] - time.time() <= 300
    assert claims["jti"]


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": "bearer"},
        {"auth": "bearer", "token_file": "/nowhere/token"},
        {"auth": "basic", "password": "x"},
        {"auth": "oauth2", "client_id": "x", "client_secret": "y"},
        {"auth": "smart", "client_id": "x"},
        {"auth": "smart", "client_id": "x", "key_file": "/nowhere/key"},
        {"certificate": "/nowhere/cert.pem"},
        {"ca": "/nowhere/ca.pem"},
    ],
)
def test_what_is_missing_is_told_at_start(settings):
    with pytest.raises(ConfigurationError, match="there"):
        client("https://fhir.example", **settings)


@pytest.mark.parametrize("content", ["hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n", '{"kty":"oct","k":"hunter2"}', '{"hunter2'])  # fmt: skip
def test_a_bad_key_is_told_and_not_shown(tmp_path, content):
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ConverterError) as told:
        client("https://fhir.example", auth="smart", client_id="x", key_file=str(file))
    assert "hunter2" not in str(told.value)


def test_secrets_are_masked_and_never_stand_in_a_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[destinations.main]\nurl = "https://fhir.example"\ntoken_file = "t"\n')
    loaded = load(file, {"DCM2FHIR_DESTINATIONS__MAIN__CLIENT_SECRET": "hunter2"})
    shown = {setting.key: setting.value for setting in settings_of(loaded)}
    assert shown["destinations.main.client_secret"] == "********"
    assert shown["destinations.main.token_file"] == str(tmp_path / "t")
    assert loaded.config.destinations["main"].client_secret == "hunter2"
    file.write_text('[destinations.main]\ntoken = "hunter2"\n')
    with pytest.raises(ConfigurationError) as told:
        load(file, {})
    assert "hunter2" not in str(told.value)


# TLS


@pytest.fixture
def tls(tmp_path):
    """A server that wants a certificate, and the paths of authority and client."""
    authority = certificate("authority", key=rsa.generate_private_key(65537, 2048))
    ca, _ = written(tmp_path, "ca", authority)
    mine = written(tmp_path, "client", certificate("client", authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*written(tmp_path, "server", certificate("server", authority)))
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve():
        body = b'{"resourceType":"CapabilityStatement"}'
        while not over.is_set():
            taken, _ = listening.accept()
            try:
                with context.wrap_socket(taken, server_side=True) as safe:
                    safe.settimeout(2)
                    while safe.recv(9999):
                        safe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))  # fmt: skip
            except OSError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    yield f"https://127.0.0.1:{port}/fhir", ca, mine
    over.set()
    socket.create_connection(("127.0.0.1", port)).close()
    thread.join()
    listening.close()


def ask(base, **settings):
    speaker = client(base, timeout=3, **settings)
    try:
        return speaker.request("GET", "metadata", "metadata")
    finally:
        speaker.close()


def test_mutual_tls(tls):
    base, ca, (cert, key) = tls
    assert ask(base, ca=ca, certificate=cert, certificate_key=key).status == 200
    assert decide(ask(base, ca=ca), "metadata") == "again", "without a certificate it is refused"


def test_a_server_of_an_unknown_authority_is_not_spoken_to(tls):
    base, _, (cert, key) = tls
    assert ask(base, certificate=cert, certificate_key=key).failure == "tls"


def test_an_authority_that_was_named_is_held_to_the_same_by_every_python(tls):
    """Python 3.13 by itself refuses one whose certificate lacks a key usage, as the authority of this test does."""
    base, ca, _ = tls
    speaker = client(base, ca=ca)
    try:
        assert not speaker.tls().verify_flags & ssl.VERIFY_X509_STRICT
    finally:
        speaker.close()


def test_certificates_are_read_again_when_they_change(tls, tmp_path):
    base, ca, (cert, key) = tls
    stranger = certificate("stranger")
    written(tmp_path, "mine", stranger)
    speaker = client(base, timeout=3, ca=ca, certificate=str(tmp_path / "mine.pem"), certificate_key=str(tmp_path / "mine.key"))  # fmt: skip
    try:
        assert speaker.request("GET", "metadata", "metadata").status == 0
        for name, source in (("mine.pem", cert), ("mine.key", key)):
            Path(source).replace(tmp_path / name)
        assert speaker.request("GET", "metadata", "metadata").status == 200
    finally:
        speaker.close()
