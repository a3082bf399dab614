#!/usr/bin/env python3
"""Speaks TLS to the examples as openssl and curl do.

    cargo build --all-features --examples && python3 ci/tls.py [DIRECTORY]

As ci/examples.py, with which it shares its tools. Needs openssl; uses curl where there is one.
"""

import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import examples
from examples import DEADLINE, MIB, Example, check, connect, equal, pattern, receive, refused


def path(name):
    return os.path.join(examples.temporary, name)


def openssl(*arguments):
    command = ["openssl", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE)


def make_certificates():
    """An authority `ca.pem`, and signed by it `server.pem` for localhost and `client.pem`."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    extension = "basicConstraints=critical,CA:TRUE"
    names = ["-subj", "/CN=authority", "-addext", extension, "-x509"]
    openssl("req", *curve, *names, "-keyout", path("ca.key"), "-out", path("ca.pem"))
    for name, subject in ("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:client.example"):
        request = ["-subj", f"/CN={name}", "-keyout", path(f"{name}.key")]
        openssl("req", *curve[:-2], *request, "-out", path(f"{name}.csr"))
        with open(path("extensions"), "w", encoding="ascii") as file:
            file.write(f"subjectAltName={subject}\n")
        signer = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial"]
        openssl(
            "x509", "-req", "-days", "2", "-in", path(f"{name}.csr"), *signer,
            "-extfile", path("extensions"), "-out", path(f"{name}.pem"),
        )  # fmt: skip


def echo_tls(*flags, certificate="server"):
    own = ["--cert", path(f"{certificate}.pem"), "--key", path(f"{certificate}.key")]
    own = own if certificate else []
    return Example("echo_tls", *own, *flags, listen=("tls://127.0.0.1:0",))


def told(example):
    """The next line that an example prints, without the peer's address."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([example.process.stdout], [], [], DEADLINE)[0]:
            raise TimeoutError(f"it printed only {line!r}")
        line += os.read(example.process.stdout.fileno(), 1) or b"\n"
    return line.decode().split(": ", 1)[-1].rstrip("\n")


def s_client(example, *flags, text="hello\n"):
    """What `openssl s_client` prints until it has the text back, and behind that; its exit code."""
    host, port = example.address()
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", path("ca.pem")]
    process = subprocess.Popen(
        [*command, "-verify_return_error", *flags],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    process.stdin.write(text.encode())
    process.stdin.flush()
    printed, end = b"", time.monotonic() + DEADLINE
    while f"\n{text}".encode() not in printed and time.monotonic() < end:
        if not select.select([process.stdout], [], [], 1)[0]:
            continue
        some = os.read(process.stdout.fileno(), 65536)
        if not some:
            break
        printed += some
    rest, _ = process.communicate(timeout=DEADLINE)
    return (printed + rest).decode(errors="replace"), process.returncode


def versions_protocols_and_names():
    with echo_tls("--alpn", "h2", "--alpn", "http/1.1") as echo:
        for flag, version in ("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3"):
            printed, code = s_client(echo, flag, "-alpn", "http/1.1,h2", "-servername", "localhost")
            good = "Verification: OK" in printed and "ALPN protocol: h2" in printed
            check(f"echo_tls: s_client {flag}", good and "\nhello\n" in printed, printed)
            line = told(echo)
            good = line.startswith(version) and "alpn=h2 name=localhost" in line
            check(f"echo_tls: agrees with s_client {flag}", good and line.endswith("resumed=false"), line)
            equal("echo_tls: and sees it close", (told(echo), code), ("closed by the peer", 0))
        printed, _ = s_client(echo, "-noservername")
        line = told(echo)
        none = "No ALPN negotiated" in printed and "alpn=- name=-" in line
        check("echo_tls: no protocol and no name", none, line)
        told(echo)
        printed, code = s_client(echo, "-alpn", "gopher")
        none = "no application protocol" in printed and code != 0
        check("echo_tls: no common protocol", none and told(echo).startswith("not open"), printed)
        echo.end()


def resumption():
    with echo_tls() as echo:
        for flag in "-tls1_2", "-tls1_3":
            session = path(f"session{flag}")
            for file, word, value in ("-sess_out", "New", "false"), ("-sess_in", "Reused", "true"):
                printed, _ = s_client(echo, flag, file, session)
                line = told(echo)
                told(echo)
                good = f"\n{word}, TLS" in printed and line.endswith(f"resumed={value}")
                check(f"echo_tls: s_client {flag} {file}", good, line)
        echo.end(signal.SIGTERM)


def client_certificates():
    with echo_tls("--client-ca", path("ca.pem")) as echo:
        for flag in "-tls1_2", "-tls1_3":
            own = ["-cert", path("client.pem"), "-key", path("client.key")]
            printed, _ = s_client(echo, flag, *own)
            line = told(echo)
            good = "\nhello\n" in printed and "certificates=0" not in line
            check(f"echo_tls: s_client {flag} -cert", good, line)
            told(echo)
            printed, code = s_client(echo, flag)
            line = told(echo)
            good = line.startswith("not open: TLS") and "\nhello\n" not in printed
            check(f"echo_tls: s_client {flag} without -cert", good, (line, printed))
        echo.end()


def renegotiation():
    with echo_tls() as echo:
        with client_of(echo) as other:
            printed, code = s_client(echo, "-tls1_2", text="R\n")
            check("echo_tls: renegotiation is refused", "no renegotiation" in printed, printed)
            told(echo), told(echo)
            check("echo_tls: that client ends", "closed by the peer" in told(echo) or code, code)
            equal("echo_tls: the other does not", echoed(other, b"here"), b"here")
        echo.end()


def client_of(example):
    context = ssl.create_default_context(cafile=path("ca.pem"))
    return wrapped(context, example)


def wrapped(context, example):
    plain = socket.create_connection(example.address(), DEADLINE)
    return context.wrap_socket(plain, server_hostname="localhost")


def echoed(peer, message):
    """In step, as Python's TLS is not for two threads at once."""
    received = b""
    for at in range(0, len(message), 1 << 16):
        peer.sendall(message[at : at + (1 << 16)])
        received += receive(peer, min(1 << 16, len(message) - at))
    return received


def much_at_once():
    for flags in [], ["--loops", "2"], ["--reuse-port", "--loops", "2"]:
        with echo_tls(*flags) as echo:
            with client_of(echo) as first, client_of(echo) as second:
                for peer in first, second:
                    same = echoed(peer, pattern(4 * MIB)) == pattern(4 * MIB)
                    check(f"echo_tls {flags}: 4 MiB return to Python's ssl", same, "differ")
            echo.end()


def self_signed():
    with echo_tls(certificate="") as echo:
        context = ssl.create_default_context()
        try:
            wrapped(context, echo)
            check("echo_tls: nobody trusts a certificate of its own", False, "it is trusted")
        except ssl.SSLCertVerificationError:
            line = told(echo)
            check("echo_tls: nobody trusts a certificate of its own", "not open" in line, line)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with wrapped(context, echo) as peer:
            equal("echo_tls: but it encrypts", echoed(peer, b"hello"), b"hello")
        echo.end()


def what_is_no_tls():
    with echo_tls() as echo:
        with connect(echo.address()) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = peer.recv(100)
            equal("echo_tls: plaintext gets an alert", (answer[:1], len(answer)), (b"\x15", 7))
            equal("echo_tls: and the end", peer.recv(100), b"")
            line = told(echo)
            check("echo_tls: and is told of", line.startswith("not open: TLS"), line)
        with client_of(echo) as peer:
            equal("echo_tls: a client", echoed(peer, b"half"), b"half")
            told(echo)
            plain = socket.socket(fileno=peer.detach())
            plain.close()
            line = told(echo)
            check("echo_tls: that is cut off", "without a close_notify" in line or "reset" in line, line)
        echo.end()
    code, errors = refused("echo_tls", "--cert", path("server.pem"))
    check("echo_tls: --cert needs --key", code == 2 and "--key" in errors, errors)
    code, errors = refused("echo_tls", "--cert", path("none"), "--key", path("server.key"))
    check("echo_tls: says what it cannot read", code == 1 and path("none") in errors, errors)
    code, errors = refused("echo_tls", "--cert", path("server.pem"), "--key", path("client.key"))
    check("echo_tls: says that they do not fit", code == 1 and "keys" in errors, errors)


def https_by_curl():
    if not shutil.which("curl"):
        return print("skip  https: there is no curl")
    flags = ["--tls-cert", path("server.pem"), "--tls-key", path("server.key")]
    with Example("http", *flags, listen=("tls://127.0.0.1:0", "tcp://127.0.0.1:0")) as http:
        host, port = http.address()
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", path("ca.pem")]
        command += ["--max-time", str(DEADLINE), "--resolve", f"localhost:{port}:{host}"]

        def curl(*arguments):
            run = subprocess.run([*command, *arguments], capture_output=True, timeout=2 * DEADLINE)
            return run.stdout + run.stderr

        url = f"https://localhost:{port}"
        for version in "1.2", "1.3":
            tls = [f"--tlsv{version}", "--tls-max", version]
            equal(f"https: curl by TLS {version}", curl(*tls, f"{url}/"), examples.HELLO)
        count = ["--write-out", " %{num_connects}"]
        both = curl(*count, f"{url}/", f"{url}/plaintext")
        equal("https: curl keeps the connection", both, examples.HELLO + b" 1" + examples.HELLO + b" 0")
        equal("https: curl --head", b"200 OK" in curl("--head", f"{url}/"), True)
        body = path("body")
        with open(body, "wb") as file:
            file.write(pattern(MIB))
        code = ["--output", os.devnull, "--write-out", "%{http_code}", "--data-binary", f"@{body}"]
        equal("https: curl posts 1 MiB", curl(*code, f"{url}/"), b"405")
        wrong = curl("--resolve", f"other.example:{port}:{host}", f"https://other.example:{port}/")
        check("https: curl minds the name", b"other.example" in wrong, wrong)
        plain = "http://{}:{}/".format(*http.address(1))
        equal("https: plaintext beside it", curl(plain), examples.HELLO)
        http.end()
    code, errors = examples.refused("http", "--listen", "tcp://127.0.0.1:0", *flags)
    check("https: a certificate without a listener for it is refused", code == 1 and "tls://" in errors, errors)


examples.GROUPS = [
    make_certificates,
    versions_protocols_and_names,
    resumption,
    client_certificates,
    renegotiation,
    much_at_once,
    self_signed,
    what_is_no_tls,
    https_by_curl,
]

if __name__ == "__main__":
    examples.main()
