#!/usr/bin/env python3
"""Speaks to the example http as clients do, in good faith and in bad.

    cargo build --examples && python3 ci/http_clients.py [DIRECTORY]

As ci/examples.py, with which it shares its tools. (It is not called http.py: Python's own module has
that name.) Uses curl and wrk where they are. CORPUS is the list of requests that two parties could
read in two ways, with what has to come of each: sent whole, byte by byte, and some of them cut in two
at each place. Everything is done on each driver that the system has.
"""

import concurrent.futures
import contextlib
import http.client
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
import examples
from examples import DEADLINE, MIB, Example, check, check_end, check_memory, equal, pattern, receive
from examples import rss_kib, shown

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# Behind each case: answered if the connection is kept, and never otherwise.
PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HELLO = b"Hello, World!"

driver = "poll"


def server(*flags, **more):
    return Example("http", "--driver", driver, *flags, **more)


def label(text):
    return f"http, {driver}: {text}"


# ---- the corpus -----------------------------------------------------------------------------


def get(*lines, line=b"GET / HTTP/1.1", host=HOST):
    return line + b"\r\n" + host + b"".join(part + b"\r\n" for part in lines) + b"\r\n"


def post(*lines, body=b"", line=b"POST /echo HTTP/1.1"):
    return get(*lines, line=line) + body


def chunked(body, *lines):
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def length(value, body=b""):
    return post(b"Content-Length: " + value, body=body)


def host(value):
    return get(host=b"Host: " + value + b"\r\n")


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"

# Name, bytes, the statuses in order, and whether the connection is kept. A status with a "-" is that
# of an answer without a body.
CORPUS = [
    # ---- what is right, however odd
    ("a request", GET, "200 kept"),
    ("three requests", GET * 3, "200 200 200 kept"),
    ("HEAD", get(line=b"HEAD / HTTP/1.1") + GET, "200- 200 kept"),
    ("HEAD of what is not there", get(line=b"HEAD /x HTTP/1.1") + GET, "404- 200 kept"),
    ("HEAD with a body", get(b"Content-Length: 5", line=b"HEAD / HTTP/1.1") + b"hello" + GET, "200- 200 kept"),
    ("HEAD with a body over the limit", get(b"Content-Length: 2000000", line=b"HEAD / HTTP/1.1"), "413- close"),
    ("HEAD with a malformed chunk", get(b"Transfer-Encoding: chunked", line=b"HEAD / HTTP/1.1") + b"zz\r\n", "400- close"),
    ("HEAD of a long answer", get(line=b"HEAD /bytes/1000000 HTTP/1.1") + GET, "200- 200 kept"),
    ("not found", get(line=b"GET /x HTTP/1.1"), "404 kept"),
    ("a method that is not allowed", get(line=b"DELETE / HTTP/1.1"), "405 kept"),
    ("GET of what takes POST", get(line=b"GET /echo HTTP/1.1"), "405 kept"),
    ("a method that nobody knows", get(line=b"BREW / HTTP/1.1"), "501 kept"),
    ("a method in lower case", get(line=b"get / HTTP/1.1"), "501 kept"),
    ("OPTIONS *", get(line=b"OPTIONS * HTTP/1.1"), "200 kept"),
    ("OPTIONS of a path", get(line=b"OPTIONS /echo HTTP/1.1"), "200 kept"),
    ("CONNECT", get(line=b"CONNECT a:443 HTTP/1.1") + HIDDEN, "501 close"),
    ("CONNECT with a body", get(b"Content-Length: 5", line=b"CONNECT a:443 HTTP/1.1") + b"hello" + HIDDEN, "501 close"),
    ("a query", get(line=b"GET /?a=b&c=%20 HTTP/1.1"), "200 kept"),
    ("a target with its host", get(line=b"GET http://b/json HTTP/1.1"), "200 kept"),
    ("a target with its host and no path", get(line=b"GET HTTP://b:80 HTTP/1.1"), "200 kept"),
    ("an upgrade is ignored", get(b"Connection: Upgrade", b"Upgrade: h2c"), "200 kept"),
    ("an empty line first", b"\r\n" + GET, "200 kept"),
    ("four empty lines first", b"\r\n" * 4 + GET, "200 kept"),
    ("no white space behind a colon", get(b"a:b", b"c:", host=b"host:a\r\n"), "200 kept"),
    ("white space around a value", get(b"a: \t b \t ", b"c: \t"), "200 kept"),
    ("bytes over 127 in a value", get(b"a: \xc3\xa9\xff"), "200 kept"),
    ("Connection: close", get(b"Connection: close") + HIDDEN, "200 close"),
    ("Connection with close in a list", get(b"Connection: a ,\tCLOSE") + HIDDEN, "200 close"),
    ("HTTP/1.0", get(line=b"GET / HTTP/1.0") + HIDDEN, "200 close"),
    ("HTTP/1.0 without a Host", get(line=b"GET / HTTP/1.0", host=b""), "200 close"),
    ("HTTP/1.0 that stays", get(b"Connection: Keep-Alive", line=b"GET / HTTP/1.0"), "200 kept"),
    ("a length", length(b"5", b"hello"), "200 kept"),
    ("a length of 0", length(b"0"), "200 kept"),
    ("a length with zeros before it", length(b"0005", b"hello"), "200 kept"),
    ("a GET with a body", get(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, "200 kept"),
    ("a body nobody wants", post(b"Content-Length: 5", line=b"PUT /x HTTP/1.1", body=b"hello"), "404 kept"),
    ("chunks", chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "200 kept"),
    ("no chunk but the last", chunked(b"0\r\n\r\n"), "200 kept"),
    ("chunk sizes with zeros and capitals", chunked(b"000A\r\n0123456789\r\n000\r\n\r\n"), "200 kept"),
    ("chunk extensions", chunked(b'5;a;b=c;d="e;\\""\r\nhello\r\n0;f\r\n\r\n'), "200 kept"),
    ("trailers", chunked(b"1\r\na\r\n0\r\nContent-Length: 9\r\nb: c\r\n\r\n"), "200 kept"),
    ("Chunked in capitals", post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n"), "200 kept"),
    ("Expect", post(b"Content-Length: 2", b"Expect: 100-Continue", body=b"ab"), "100- 200 kept"),
    ("Expect without a body", post(b"Content-Length: 0", b"Expect: 100-continue"), "200 kept"),
    ("Expect with chunks", chunked(b"1\r\na\r\n0\r\n\r\n", b"Expect: 100-continue"), "100- 200 kept"),
    ("Expect that is refused", get(b"Content-Length: 2", b"Expect: 100-continue") + b"ab", "200 close"),
    ("Expect in HTTP/1.0", post(b"Content-Length: 2", b"Expect: 100-continue", line=b"POST /echo HTTP/1.0", body=b"ab"), "200 close"),
    # ---- two lengths
    ("a length and chunks", chunked(b"0\r\n\r\n", b"Content-Length: 5"), "400 close"),
    ("chunks and a length", post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    ("a length of 0 and chunks", post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "400 close"),
    ("two lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), "400 close"),
    ("the same length twice", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), "400 close"),
    ("a list of lengths", length(b"5, 6", b"hello"), "400 close"),
    ("a list of the same length", length(b"5,5", b"hello"), "400 close"),
    # ---- lengths that are none
    ("no length", length(b"", b"hello"), "400 close"),
    ("a length with a plus", length(b"+5", b"hello"), "400 close"),
    ("a length with a minus", length(b"-5", b"hello"), "400 close"),
    ("a length of minus nothing", length(b"-0"), "400 close"),
    ("a hexadecimal length", length(b"0x5", b"hello"), "400 close"),
    ("a length with a letter", length(b"5a", b"hello"), "400 close"),
    ("a length with white space in it", length(b"5 0", b"hello"), "400 close"),
    ("a length with a separator", length(b"1_0", b"hello"), "400 close"),
    ("a length in quotes", length(b'"5"', b"hello"), "400 close"),
    ("a fraction", length(b"5.0", b"hello"), "400 close"),
    ("a vertical tab before a length", length(b"\x0b5", b"hello"), "400 close"),
    ("a length over 64 bits", length(b"18446744073709551621", b"hello"), "413 close"),
    ("a length of 100 digits", length(b"9" * 100, b"hello"), "413 close"),
    ("a length over the limit", length(b"%d" % (MIB + 1), b"hello"), "413 close"),
    # ---- transfer codings
    ("an unknown coding", post(b"Transfer-Encoding: gzip", body=b"hello"), "501 close"),
    ("an unknown coding before chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), "501 close"),
    ("identity", post(b"Transfer-Encoding: identity", body=b"hello"), "501 close"),
    ("nearly chunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), "501 close"),
    ("chunked with a parameter", post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"), "501 close"),
    ("chunked in quotes", post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), "501 close"),
    ("chunked is not last", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), "400 close"),
    ("chunked twice", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), "400 close"),
    ("chunked in two lines", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "400 close"),
    ("chunked, and identity in a second line", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), "400 close"),
    ("an empty coding", post(b"Transfer-Encoding:", body=b"hello"), "400 close"),
    ("an empty coding before chunked", post(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n"), "400 close"),
    ("a coding behind a vertical tab", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), "400 close"),
    ("a coding with NUL", post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n"), "400 close"),
    ("chunks in HTTP/1.0", post(b"Transfer-Encoding: chunked", line=b"POST /echo HTTP/1.0", body=b"0\r\n\r\n"), "400 close"),
    # ---- chunks
    ("a chunk without a size", chunked(b"\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size with a plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size with a minus", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size that is no number", chunked(b"five\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("white space before a chunk size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("white space behind a chunk size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a tab behind a chunk size", chunked(b"5\t\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size over 64 bits", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size of 64 bits", chunked(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), "413 close"),
    ("a chunk size over the limit", chunked(b"100001\r\nhello"), "413 close"),
    ("chunks that are too long together", chunked(b"100000\r\n" + b"x" * MIB + b"\r\n1\r\n"), "413 close"),
    ("a chunk size ended by LF", chunked(b"5\nhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk size ended by CR", chunked(b"5\rhello\r\n0\r\n\r\n"), "400 close"),
    ("a chunk longer than its size", chunked(b"5\r\nhello!\r\n0\r\n\r\n"), "400 close"),
    ("a chunk ended by LF", chunked(b"5\r\nhello\n0\r\n\r\n"), "400 close"),
    ("a chunk without an end", chunked(b"5\r\nhello0\r\n\r\n"), "400 close"),
    ("the last chunk ended by LF", chunked(b"0\r\n\n" + HIDDEN), "400 close"),
    ("an extension with LF", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("an extension with NUL", chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("an extension without a name", chunked(b"5;\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("an extension without a value", chunked(b"5;a=\r\nhello\r\n0\r\n\r\n"), "400 close"),
    ("an extension with an open quote", chunked(b'5;a="\r\nhello\r\n0\r\n\r\n'), "400 close"),
    ("an extension without end", chunked(b"5;" + b"a" * 300), "400 close"),
    ("many extensions", chunked((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 30), "400 close"),
    ("a folded trailer", chunked(b"0\r\na: b\r\n c\r\n\r\n"), "400 close"),
    ("a trailer that is none", chunked(b"0\r\nGET /hidden HTTP/1.1\r\n\r\n"), "400 close"),
    ("trailers without end", chunked(b"0\r\n" + b"a: b\r\n" * 2000), "431 close"),
    # ---- lines
    ("LF for CRLF", b"GET / HTTP/1.1\nHost: a\n\n", "400 close"),
    ("LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "400 close"),
    ("LF behind a header", b"GET / HTTP/1.1\r\nHost: a\n\r\n", "400 close"),
    ("LF for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", "400 close"),
    ("LF for an empty line first", b"\n" + GET, "400 close"),
    ("CR for CRLF", b"GET / HTTP/1.1\rHost: a\r\r", "400 close"),
    ("CR in a header", get(b"a: b\rTransfer-Encoding: chunked"), "400 close"),
    ("CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "400 close"),
    ("CR before the colon", get(b"a\r: b"), "400 close"),
    ("a folded header", get(b"a: b", b" c: d"), "400 close"),
    ("a header folded by a tab", get(b"a: b", b"\tc: d"), "400 close"),
    ("a folded length", post(b"Content-Length:", b" 5", body=b"hello"), "400 close"),
    ("white space before the first header", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 close"),
    ("five empty lines", b"\r\n" * 5 + GET, "400 close"),
    # ---- names and values of headers
    ("a space before the colon", post(b"Content-Length : 5", body=b"hello"), "400 close"),
    ("a tab before the colon", post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"), "400 close"),
    ("a header without a colon", get(b"nothing"), "400 close"),
    ("a header without a name", get(b": b"), "400 close"),
    ("a space in a name", get(b"a b: c"), "400 close"),
    ("NUL in a name", get(b"a\0: b"), "400 close"),
    ("NUL in a value", get(b"a: b\0c"), "400 close"),
    ("a byte over 127 in a name", get(b"\xc3\xa9: b"), "400 close"),
    ("parentheses in a name", get(b"a(b): c"), "400 close"),
    ("DEL in a value", get(b"a: b\x7f"), "400 close"),
    ("an escape in a value", get(b"a: \x1b[1m"), "400 close"),
    # ---- hosts
    ("no Host", get(host=b""), "400 close"),
    ("no Host, but in the target", get(line=b"GET http://a/ HTTP/1.1", host=b""), "400 close"),
    ("two Hosts", get(host=HOST * 2), "400 close"),
    ("two Hosts in HTTP/1.0", get(line=b"GET / HTTP/1.0", host=HOST * 2), "400 close"),
    ("an empty Host", host(b""), "400 close"),
    ("a Host with a space", host(b"a b"), "400 close"),
    ("a list of Hosts", host(b"a,b"), "400 close"),
    ("a Host with a path", host(b"a/b"), "400 close"),
    ("a Host with a user", host(b"a@b"), "400 close"),
    ("a Host with a bad port", host(b"a:http"), "400 close"),
    ("a Host with half an address", host(b"[::1"), "400 close"),
    ("a Host with a bad address", host(b"[::g]"), "400 close"),
    ("an address and a port", host(b"[::1]:8080"), "200 kept"),
    # ---- request lines
    ("nothing that is a request", b"nonsense\r\n\r\n", "400 close"),
    ("no version", get(line=b"GET /"), "400 close"),
    ("a version in lower case", get(line=b"GET / http/1.1"), "400 close"),
    ("a version with a letter", get(line=b"GET / HTTP/1.a"), "400 close"),
    ("a version with more digits", get(line=b"GET / HTTP/1.10"), "400 close"),
    ("HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 close"),
    ("another version", get(line=b"GET / HTTP/3.0"), "505 close"),
    ("two spaces", get(line=b"GET  / HTTP/1.1"), "400 close"),
    ("two spaces before the version", get(line=b"GET /  HTTP/1.1"), "400 close"),
    ("a tab for a space", get(line=b"GET\t/ HTTP/1.1"), "400 close"),
    ("a tab in the target", get(line=b"GET /\t HTTP/1.1"), "400 close"),
    ("a space at the end", get(line=b"GET / HTTP/1.1 "), "400 close"),
    ("a space at the beginning", get(line=b" GET / HTTP/1.1"), "400 close"),
    ("no target", get(line=b"GET HTTP/1.1"), "400 close"),
    ("an empty target", get(line=b"GET  HTTP/1.1"), "400 close"),
    ("a target that is no path", get(line=b"GET a HTTP/1.1"), "400 close"),
    ("a target with a fragment", get(line=b"GET /#a HTTP/1.1"), "400 close"),
    ("a target with a byte over 127", get(line=b"GET /\xc3\xa9 HTTP/1.1"), "400 close"),
    ("a target with NUL", get(line=b"GET /\0 HTTP/1.1"), "400 close"),
    ("a target of another scheme", get(line=b"GET ftp://a/ HTTP/1.1"), "400 close"),
    ("a target with a user", get(line=b"GET http://a@b/ HTTP/1.1"), "400 close"),
    ("a target without a host", get(line=b"GET http:///a HTTP/1.1"), "400 close"),
    ("GET *", get(line=b"GET * HTTP/1.1"), "400 close"),
    ("GET of a host", get(line=b"GET a:80 HTTP/1.1"), "400 close"),
    ("CONNECT of a path", get(line=b"CONNECT / HTTP/1.1"), "400 close"),
    ("CONNECT without a port", get(line=b"CONNECT a HTTP/1.1"), "400 close"),
    ("a method with a bad character", get(line=b"G@T / HTTP/1.1"), "400 close"),
    ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00", "400 close"),
    ("another expectation", post(b"Expect: 200-ok"), "417 close"),
    ("another expectation beside it", post(b"Expect: 100-continue, x"), "417 close"),
    # ---- limits
    ("a long target", get(line=b"GET /" + b"a" * 8000 + b" HTTP/1.1"), "404 kept"),
    ("a request line over 8 KiB", get(line=b"GET /" + b"a" * 8200 + b" HTTP/1.1"), "414 close"),
    ("a request line without end", b"GET /" + b"a" * 20_000, "414 close"),
    ("a method without end", b"G" * 20_000, "414 close"),
    ("a long header", get(b"a: " + b"b" * 16_000), "200 kept"),
    ("a header over 16 KiB", get(b"a: " + b"b" * 16_384), "431 close"),
    ("a header without end", get(b"x")[:-5] + b"a: " + b"b" * 20_000, "431 close"),
    ("a name without end", get(b"x")[:-5] + b"a" * 20_000, "431 close"),
    ("100 headers", get(*[b"a: b"] * 99), "200 kept"),
    ("101 headers", get(*[b"a: b"] * 100), "431 close"),
]


def parse(received, bodiless=()):
    """The answers, as (status, head, body), and what is left over."""
    answers = []
    while b"\r\n\r\n" in received:
        head, received = received.split(b"\r\n\r\n", 1)
        found = re.search(rb"\r\nContent-Length: (\d+)", head)
        size = int(found.group(1)) if found and len(answers) not in bodiless else 0
        body, received = received[:size], received[size:]
        answers.append((head.split(b" ")[1].decode(), head, body))
    return answers, received


def expected_of(outcome):
    """The statuses that must come, the places of those without a body, and whether it is kept."""
    *statuses, end = outcome.split()
    bodiless = {place for place, status in enumerate(statuses) if status.endswith("-")}
    statuses = [status.rstrip("-") for status in statuses]
    return statuses + (["404"] if end == "kept" else []), bodiless


def judge(outcome, received):
    """What is wrong with what was received until the end of the connection, if something is."""
    statuses, bodiless = expected_of(outcome)
    answers, rest = parse(received, bodiless)
    if [answer[0] for answer in answers] != statuses or rest:
        return f"expected {outcome}, got {shown(received)}"
    for place, (status, head, _) in enumerate(answers):
        closes = b"\r\nConnection: close" in head
        if status != "100" and closes != (place == len(answers) - 1):
            return f"{outcome}: the connection is said to be kept or closed wrongly: {shown(received)}"
        if status != "100" and b"\r\nDate: " not in head:
            return f"no Date: {shown(head)}"
    return None


def deliver(address, parts, pause=0.0):
    """Sends one after the other; answers all that comes until the end, which must be in order."""
    with examples.connect(address) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            # The server may have closed before it has read everything.
            with contextlib.suppress(OSError):
                for part in parts:
                    peer.sendall(part)
                    if pause:
                        time.sleep(pause)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        received = bytearray()
        while True:
            try:
                some = peer.recv(1 << 16)
            except OSError as error:
                return bytes(received), str(error)
            if not some:
                return bytes(received), None
            received += some


def run_case(address, case, parts, pause=0.0):
    received, error = deliver(address, parts, pause)
    return (error and f"{error} after {shown(received)}") or judge(case[2], received)


def corpus_whole():
    with server() as http:
        for case in CORPUS:
            wrong = run_case(http.address(), case, [case[1] + PROBE])
            check(label(case[0]), wrong is None, wrong)
        http.end()


def corpus_in_pieces():
    """Byte by byte, and every twelfth case cut in two at each place."""
    with server() as http, concurrent.futures.ThreadPoolExecutor(16) as pool:
        jobs = []
        for case in CORPUS:
            text = case[1] + PROBE
            # What is very long is cut into more bytes at its beginning only.
            near, far = text[:2000], text[2000:]
            parts = [near[at : at + 1] for at in range(len(near))]
            parts += [far[at : at + 997] for at in range(0, len(far), 997)]
            jobs.append(pool.submit(run_case, http.address(), case, parts))
        wrong = [job.result() for job in jobs]
        wrong = [text for text in wrong if text]
        check(label(f"{len(CORPUS)} cases byte by byte"), not wrong, wrong[:1])
        short = [case for case in CORPUS if len(case[1]) < 300]
        for case in short[::12]:
            text = case[1] + PROBE
            jobs = [
                pool.submit(run_case, http.address(), case, [text[:at], text[at:]], 0.001)
                for at in range(1, len(text))
            ]
            wrong = [job.result() for job in jobs]
            wrong = [text for text in wrong if text]
            check(label(f"{case[0]}, cut at each of {len(jobs)} places"), not wrong, wrong[:1])
        http.end()


# ---- bodies, order, bounds ------------------------------------------------------------------


def ask(peer, request):
    """The one answer to a request on a connection that is kept."""
    peer.sendall(request)
    return take_answer(peer)


def take_answer(peer):
    received = b""
    while b"\r\n\r\n" not in received:
        some = peer.recv(1)
        if not some:
            break
        received += some
    size = re.search(rb"\r\nContent-Length: (\d+)", received)
    body = receive(peer, int(size.group(1))) if size else b""
    return received.split(b" ")[1].decode(), received, body


def bodies_come_back():
    with server() as http, http.connect() as peer:
        for size in 0, 1, 4095, 65_536, MIB:
            text = pattern(size)
            whole = post(b"Content-Length: %d" % size, body=text)
            equal(label(f"{size} bytes by length"), ask(peer, whole)[2] == text, True)
            step = max(1, size // 7)
            chunks = [text[at : at + step] for at in range(0, size, step)]
            body = b"".join(b"%x;n=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
            whole = chunked(body + b"0\r\nSum: 1\r\n\r\n")
            equal(label(f"{size} bytes in chunks"), ask(peer, whole)[2] == text, True)
        for size in 0, 1, 100_000, 30 * MIB:
            status, _, body = ask(peer, get(line=b"GET /bytes/%d HTTP/1.1" % size))
            equal(label(f"/bytes/{size}"), (status, body == pattern(size)), ("200", True))
        equal(label("one byte too many"), ask(peer, get(line=b"GET /bytes/1073741825 HTTP/1.1"))[0], "404")
        http.end()


def order_is_kept():
    paths = [b"/json", b"/bytes/3", b"/", b"/bytes/700000", b"/x", b"/bytes/70000"]
    expected = [b'{"message":"Hello, World!"}', pattern(3), HELLO, pattern(700_000), b"not found\n", pattern(70_000)]
    requests = [get(line=b"GET %s HTTP/1.1" % path) for path in paths]
    for place in range(len(paths)):
        requests.insert(2 * place + 1, post(b"Content-Length: 4", body=b"%4d" % place))
        expected.insert(2 * place + 1, b"%4d" % place)
    times = 5
    with server() as http:
        received, error = deliver(http.address(), [b"".join(requests) * times + PROBE])
        answers, rest = parse(received)
        same = [body for _, _, body in answers] == expected * times + [b"not found\n"]
        check(label("answers of every kind in the order of their requests"), same and not rest and not error, error)
        # The client has ended its side: everything is answered all the same.
        with http.connect() as peer:
            peer.sendall(b"".join(requests))
            peer.shutdown(socket.SHUT_WR)
            answers, rest = parse(receive(peer, 100 * MIB))
            same = [body for _, _, body in answers] == expected
            check(label("also behind the client's end"), same and not rest, len(answers))
        http.end()


def output_is_bounded():
    """Who asks for much and takes nothing gets no more than fits the buffers."""
    with server() as http:
        for name, request, times in [
            ("long answers", get(line=b"GET /bytes/1000000 HTTP/1.1"), 200),
            ("short answers", GET, 200_000),
            ("echoes", post(b"Content-Length: 100000", body=pattern(100_000)), 500),
        ]:
            before = rss_kib(http.process)
            text = memoryview(request * times)
            with http.connect() as peer, http.connect() as other:
                sent = 0
                peer.settimeout(0.5)
                with contextlib.suppress(TimeoutError):
                    while sent < len(text):
                        sent += peer.send(text[sent : sent + MIB])
                grown = rss_kib(http.process) - before
                check_memory(label(f"{name} that nobody reads: {grown} KiB"), grown < 8 * 1024, grown)
                equal(label(f"{name}: others are served"), ask(other, GET)[2], HELLO)
                peer.settimeout(DEADLINE)
                send = lambda: (peer.sendall(text[sent:]), peer.sendall(PROBE))
                sender = threading.Thread(target=send, daemon=True)
                sender.start()
                count, tail = 0, b""
                while some := peer.recv(1 << 20):
                    some = tail + some
                    count += some.count(b"HTTP/1.1 200 OK\r\n")
                    tail = some[-16:]
                equal(label(f"{name}: all come in the end"), count, times)
        http.end()


def lost_answers():
    """The client sends all of its body before it reads: the refusal must not be lost to a reset."""
    with server() as http:
        for name, head in [
            ("by length", post(b"Content-Length: 10000000")),
            ("in chunks", chunked(b"%x\r\n" % 10_000_000)),
        ]:
            with http.connect() as peer:
                peer.sendall(head)
                peer.sendall(bytes(10_000_000))
                answers, _ = parse(receive(peer, MIB))
                equal(label(f"413 behind a body {name}"), [answer[0] for answer in answers], ["413"])
        http.end()


def echoes_that_nobody_takes():
    """They count as held until the client has taken them, so there is no room for others."""
    body = pattern(130 * MIB)
    request = length(b"%d" % len(body), body)
    with server("--max-body", str(len(body))) as http:
        with http.connect() as peer:
            peer.sendall(request)
            begins = bool(select.select([peer], [], [], DEADLINE)[0])
            check(label("an echo of 130 MiB begins"), begins, "does not")
            received, error = deliver(http.address(), [request])
            wrong = error or judge("503 close", received)
            check(label("no room for another that nobody takes"), not wrong, wrong)
            status, _, echo = take_answer(peer)
            equal(label("the first comes whole"), (status, echo == body), ("200", True))
        with http.connect() as peer:
            status, _, echo = ask(peer, request)
            equal(label("then there is room again"), (status, echo == body), ("200", True))
        http.end()


# ---- time -----------------------------------------------------------------------------------


def slow_client(http):
    """A connection with little room for answers."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    peer.settimeout(DEADLINE)
    peer.connect(http.address())
    return contextlib.closing(peer)


def send_until_stuck(peer, text, first, piece):
    """Piece by piece, until nothing moves for half a second; answers how many bytes were taken."""
    sent, end, last = 0, first, time.monotonic()
    peer.setblocking(False)
    while sent < len(text) and time.monotonic() - last < 0.5:
        with contextlib.suppress(BlockingIOError):
            sent += peer.send(text[sent:end])
            last = time.monotonic()
        end += piece if sent == end else 0
        time.sleep(0.003)
    peer.settimeout(DEADLINE)
    return sent


@examples.patiently
def what_is_not_read_is_not_late(slower):
    """Half a request behind answers that nobody takes: its time begins when it is read again."""
    # Their answers do not fit the kernel's buffers.
    head = get(b"a: " + b"b" * 200) * 200
    body = head + post(b"Content-Length: 1000", body=pattern(1000))
    # What is cut where, so that nearly all of the answers stand before the half.
    cases = ("a head", head, len(head) - 100, 200), ("a body", body, len(body) - 500, 201)
    time_ms = str(500 * slower)
    with server("--request-timeout-ms", time_ms, "--body-timeout-ms", time_ms) as http:
        for name, unit, first, count in cases:
            text = unit * 500
            with slow_client(http) as peer:
                sent = send_until_stuck(peer, memoryview(text), first, len(unit))
                time.sleep(1.5 * slower)
                sender = threading.Thread(target=lambda: peer.sendall(text[sent:] + PROBE), daemon=True)
                sender.start()
                received = receive(peer, 100 * MIB)
                statuses = [received.count(b"HTTP/1.1 %d " % status) for status in (200, 408, 404)]
                equal(label(f"{name} that was not read is not late"), statuses, [500 * count, 0, 1])
        http.end()


@examples.patiently
def slow_takers(slower):
    """A byte at a time is no way to take a long answer; slowly, but steadily, is one."""
    body = pattern(8 * MIB)
    closing = post(b"Content-Length: %d" % len(body), b"Connection: close", body=body)
    requests = [("a long answer", get(line=b"GET /bytes/100000000 HTTP/1.1")), ("an echo", closing)]
    with server("--answer-timeout-ms", "300", "--max-body", str(len(body))) as http:
        for name, request in requests:
            with slow_client(http) as peer:
                peer.sendall(request)
                poll, end = select.poll(), time.monotonic() + DEADLINE
                poll.register(peer, 0)  # for what ends it
                while not (gone := poll.poll(0)) and time.monotonic() < end:
                    with contextlib.suppress(OSError):
                        peer.recv(1)
                    time.sleep(0.01)
                check(label(f"{name} that is taken byte by byte ends by a reset"), gone, "it goes on")
        http.end()
    with server("--answer-timeout-ms", str(2000 * slower)) as http, slow_client(http) as peer:
        peer.sendall(get(b"Connection: close", line=b"GET /bytes/30000000 HTTP/1.1"))
        received, started = bytearray(), time.monotonic()
        while some := peer.recv(64 * 1024):
            received += some
            time.sleep(0.01 * slower)
        took = time.monotonic() - started
        check(label("one that is taken steadily takes its time"), took > 2.5 * slower, took)
        equal(label("and comes whole"), received.endswith(b"\r\n\r\n" + pattern(30_000_000)), True)
        http.end()


def limits_of_a_connection():
    with server("--max-requests", "3", "--idle-timeout-ms", "300") as http:
        wrong = run_case(http.address(), ("", b"", "200 200 200 close"), [GET * 5])
        check(label("--max-requests"), wrong is None, wrong)
        with http.connect() as peer:
            started = time.monotonic()
            equal(label("a request"), ask(peer, GET)[0], "200")
            check_end(label("--idle-timeout-ms"), peer)
            took = time.monotonic() - started
            check(label("in time"), 0.25 < took < 5, took)
        http.end()
    code, errors = examples.refused("http", "--max-requests", "0")
    check("http: --max-requests 0 is refused", code == 2 and "max-requests" in errors, errors)


@examples.patiently
def slow_requests(slower):
    flags = "--request-timeout-ms", str(600 * slower), "--body-timeout-ms", str(1000 * slower)
    head, body = get(b"a: " + b"b" * 1000), chunked(b"400\r\n")
    # What is sent at once, what then trickles in, and when it is enough.
    cases = [
        ("a head", head[:1], b"", 0.6 * slower),
        ("a head byte by byte", head[:1], head[1:], 0.6 * slower),
        ("a body", body, b"", 1.0 * slower),
        ("a body byte by byte", body, b"x" * 1000, 1.0 * slower),
    ]
    with server(*flags) as http:
        for name, begin, rest, limit in cases:
            parts = [begin, *(rest[at : at + 1] for at in range(len(rest)))]
            started = time.monotonic()
            with http.connect() as silent:
                received, error = deliver(http.address(), parts, 0.02 * slower)
                took = time.monotonic() - started
                wrong = error or judge("408 close", received)
                check(label(f"{name} that takes too long"), not wrong, wrong)
                check(label(f"{name}: in time"), limit - 0.01 <= took < limit + 3, took)
                check_end(label("who says nothing is sent away"), silent)
        # Each request has its time anew.
        with http.connect() as peer:
            for _ in range(4):
                peer.sendall(GET[:20])
                time.sleep(0.25 * slower)
                equal(label("the time is a request's own"), ask(peer, GET[20:])[0], "200")
        http.end()


SLOW_CLIENTS = 1000


@examples.patiently
def half_sent_by_many(slower):
    # A descriptor for each on either side; the example inherits the limit.
    least, most = SLOW_CLIENTS + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < least:
        return check(label("descriptors for slow clients"), False, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    halves = [b"GET / HT", b"GET / HTTP/1.1\r\nA: b\r\n", GET[:-1], length(b"99", b"half"), chunked(b"5\r\nhel")]
    time_ms = str(2500 * slower)
    with server("--request-timeout-ms", time_ms, "--body-timeout-ms", time_ms) as http:
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(http.connect()) for _ in range(SLOW_CLIENTS)]
            for count, peer in enumerate(slow):
                peer.sendall(halves[count % len(halves)])
            poll = select.poll()
            poll.register(slow[-1], select.POLLIN)
            served, slowest = 0, 0.0
            while not poll.poll(0):
                started = time.monotonic()
                with http.connect() as other:
                    if ask(other, GET)[2] != HELLO:
                        break
                slowest = max(slowest, time.monotonic() - started)
                served += 1
                time.sleep(0.005)  # not so many that the ports run out
            check(label(f"{served} new clients served beside {SLOW_CLIENTS} slow ones"), served >= 20, served)
            check(label(f"the slowest in {slowest * 1e3:.0f} ms"), slowest < 1, slowest)
            wrong = [judge("408 close", receive(peer, MIB)) for peer in slow]
            wrong = [text for text in wrong if text]
            check(label("who sends half a request is told so"), not wrong, wrong[:1])
        http.end()


def killed_clients():
    """Killed within a request, within a body, within an answer: no loss to others, no memory kept."""
    script = "import socket,sys,time\np=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\np.sendall(eval(sys.argv[2]))\nprint('sent',flush=True)\ntime.sleep(60)"
    texts = [GET[:10], GET * 3 + GET[:20], length(b"500000", pattern(400_000)), get(line=b"GET /bytes/100000000 HTTP/1.1") * 3]
    with server() as http, http.connect() as other:
        for text in texts:
            # A body this long is no argument of a command.
            code = repr(text) if len(text) < 10_000 else f"{text[:200]!r}+bytes({len(text) - 200})"
            command = [sys.executable, "-c", script, str(http.address()[1]), code]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                client.stdout.readline()
                client.kill()
            equal(label("another client beside a killed one"), ask(other, GET)[2], HELLO)
        for text in texts:
            for _ in range(50):
                with http.connect() as peer:
                    peer.sendall(text)
                    reset = struct.pack("ii", 1, 0)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        equal(label("and beside 200 that were reset"), ask(other, GET)[2], HELLO)
        end = time.monotonic() + DEADLINE
        open_ones = lambda: len(os.listdir(f"/proc/{http.process.pid}/fd"))
        least = open_ones()
        while time.monotonic() < end and (least := open_ones()) > 20:
            time.sleep(0.05)
        check(label("their descriptors are given back"), least <= 20, least)
        check_memory(label("and their memory"), rss_kib(http.process) < 64 * 1024, rss_kib(http.process))
        http.end()


# ---- clients of others ----------------------------------------------------------------------


def by_curl():
    if not shutil.which("curl"):
        return print("skip  http: there is no curl")
    path = os.path.join(examples.temporary, "body")
    with open(path, "wb") as file:
        file.write(pattern(MIB))
    with open(path + ".large", "wb") as file:
        file.write(bytes(5 * MIB))

    def curl(*arguments):
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(DEADLINE)]
        run = subprocess.run([*command, *arguments], capture_output=True, timeout=2 * DEADLINE)
        return run.stdout + run.stderr

    with server() as http:
        echo, code = http.url("/echo"), ["--output", os.devnull, "--write-out", "%{http_code} %{num_connects}"]
        equal(label("curl"), curl(http.url("/")), HELLO)
        equal(label("curl --http1.0"), curl("--http1.0", http.url("/")), HELLO)
        head = curl("--head", http.url("/"))
        check(label("curl --head"), head.startswith(b"HTTP/1.1 200 OK") and head.endswith(b"Content-Length: 13\r\n\r\n"), head)
        count = ["--write-out", " %{num_connects}"]
        both = curl(*count, http.url("/"), http.url("/plaintext"))
        equal(label("curl keeps the connection"), both, HELLO + b" 1" + HELLO + b" 0")
        posted = ["--data-binary", f"@{path}"]
        expects, chunks = ["--header", "Expect: 100-continue"], ["--header", "Transfer-Encoding: chunked"]
        for name, more in [("", []), (" that waits", expects), (" in chunks", chunks), (" in chunks that waits", chunks + expects)]:
            equal(label(f"curl posts 1 MiB{name}"), curl(*posted, *more, echo) == pattern(MIB), True)
        seen = curl("--verbose", *expects, "--data", "hello", echo)
        check(label("curl is told to continue"), b"< HTTP/1.1 100 Continue" in seen and b"hello" in seen, seen)
        large = ["--data-binary", f"@{path}.large"]
        for name, more in [("", ["--header", "Expect:"]), (" that waits", expects), (" in chunks", chunks)]:
            equal(label(f"curl posts too much{name}"), curl(*code, *large, *more, echo)[:3], b"413")
        equal(label("curl posts where it may not"), curl(*code, *posted, http.url("/"))[:3], b"405")
        equal(label("curl to a proxy"), curl("--proxy", http.url(""), "--noproxy", "", "http://elsewhere.example/json"), b'{"message":"Hello, World!"}')
        http.end()


def by_wrk():
    if not shutil.which("wrk"):
        return print("skip  http: there is no wrk")
    with server() as http:
        command = ["wrk", "-t1", "-c64", "-d1s", "--latency", http.url("/")]
        run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)
        clean = "Socket errors" not in run.stdout and "Non-2xx" not in run.stdout
        check(label(f"wrk, {rate and rate.group(1)} a second"), rate and clean, run.stdout + run.stderr)
        http.end()


def by_pythons_own():
    def asked(method, path, body=None, headers={}, **more):
        client.request(method, path, body, headers, **more)
        answer = client.getresponse()
        return answer.status, answer.read()

    with server() as http:
        client = http_client(http)
        equal(label("http.client: GET"), asked("GET", "/"), (200, HELLO))
        first = client.sock
        equal(label("http.client: HEAD"), asked("HEAD", "/"), (200, b""))
        equal(label("http.client: POST"), asked("POST", "/echo", b"hello"), (200, b"hello"))
        parts = (pattern(1000) for _ in range(100))
        equal(label("http.client: POST in chunks"), asked("POST", "/echo", parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}) == (200, pattern(1000) * 100), True)
        equal(label("http.client: 404"), asked("GET", "/nothing")[0], 404)
        equal(label("http.client: OPTIONS"), asked("OPTIONS", "/echo"), (200, b""))
        equal(label("http.client: a long answer"), asked("GET", "/bytes/5000000"), (200, pattern(5_000_000)))
        check(label("http.client: all on one connection"), client.sock is first, "it has another")
        equal(label("http.client: sends too much"), asked("POST", "/echo", bytes(2 * MIB))[0], 413)
        equal(label("http.client: and begins anew"), asked("GET", "/"), (200, HELLO))
        client.close()
        http.end()


def http_client(example):
    return http.client.HTTPConnection(*example.address(), timeout=DEADLINE)


def several_loops():
    with server("--loops", "2", "--reuse-port") as example:
        clients = [http_client(example) for _ in range(16)]
        for client in clients:
            client.request("POST", "/echo", pattern(10_000))
        same = [client.getresponse().read() == pattern(10_000) for client in clients]
        check(label("two loops"), all(same), same)
        for client in clients:
            client.close()
        example.end()


GROUPS = [
    corpus_whole,
    corpus_in_pieces,
    bodies_come_back,
    order_is_kept,
    output_is_bounded,
    lost_answers,
    echoes_that_nobody_takes,
    limits_of_a_connection,
    slow_requests,
    what_is_not_read_is_not_late,
    slow_takers,
    half_sent_by_many,
    killed_clients,
    by_curl,
    by_wrk,
    by_pythons_own,
    several_loops,
]


def on(name, group):
    def run():
        global driver
        driver = name
        started = time.monotonic()
        group()
        print(f"      {group.__name__}: {time.monotonic() - started:.1f} s", flush=True)

    run.__name__ = f"{group.__name__} on {name}"
    return run


def has_io_uring():
    with contextlib.suppress(RuntimeError, OSError), Example("http", "--driver", "io-uring"):
        return True
    print("skip  http: there is no io_uring")
    return False


def main():
    examples.directory = sys.argv[1] if len(sys.argv) > 1 else examples.directory
    drivers = ["poll", "io-uring"] if has_io_uring() else ["poll"]
    only = os.environ.get("HTTP_ONLY")
    groups = [group for group in GROUPS if only in (None, group.__name__)]
    examples.GROUPS = [on(name, group) for name in drivers for group in groups]
    examples.main()


if __name__ == "__main__":
    main()
