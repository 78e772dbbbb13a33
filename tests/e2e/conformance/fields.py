"""Requests, item 3 of the issue: field lines to the letter, and names that an origin could mistake for ours."""

from conformance.case import GET, SMUGGLED, Row, Seen, forwarded, refused, table
from conformance.steps import Answer, Dribble, Refused

END = b"\r\n\r\n"


def line(octets):
    """GET with that field line between two others."""
    return GET + b"X-Before: 1\r\n" + octets + b"\r\nX-After: 2" + END


def passes(name, source, octets, has=None, lacks=()):
    return forwarded(name, source, line(octets),
                     Seen("GET", "/", has={"x-before": "1", "x-after": "2", **(has or {})}, lacks=lacks))


table(
    "fields",

    # What passes.
    passes("A value may be empty", "RFC 9110 section 5.5", b"X-A:", has={"x-a": ""}),
    passes("White space around a value is no part of it", "RFC 9110 section 5.5", b"X-A:\t b \t", has={"x-a": "b"}),
    passes("White space within a value stays", "RFC 9110 section 5.5", b"X-A: b  \t c", has={"x-a": "b  \t c"}),
    passes("A value needs no space before it", "RFC 9112 section 5", b"X-A:b", has={"x-a": "b"}),
    passes("Octets above ASCII in a value pass unharmed", "RFC 9110 section 5.5", b"X-A: \xe4\xff\x80",
           has={"x-a": "\xe4\xff\x80"}),
    passes("Every octet of a token may stand in a name", "RFC 9110 section 5.1", b"!#$%&'*+-.^`|~09az: b",
           has={"!#$%&'*+-.^`|~09az": "b"}),
    passes("A name with an underscore passes when it is like none of ours", "RFC 9110 section 5.1", b"my_name: b",
           has={"my_name": "b"}),
    passes("Colons in a value are no matter", "RFC 9110 section 5.5", b"X-A: b: c:d", has={"x-a": "b: c:d"}),
    passes("Fields of the same name stay apart and in order", "RFC 9110 section 5.3", b"X-A: 2\r\nx-a: 1\r\nX-A: 3",
           has={"x-a": ["2", "1", "3"]}),
    passes("A value that looks like a field line is a value", "CVE-2021-40346", b"X-A: Content-Length: 5",
           has={"x-a": "Content-Length: 5"}, lacks=("content-length",)),
    passes("A name of 300 octets is one name", "CVE-2021-40346", b"Content-Length0" + b"a" * 285 + b": 5",
           has={"content-length0" + "a" * 285: "5"}, lacks=("content-length",)),
    Row("A head that comes octet by octet is the same head", "RFC 9112 section 2.2",
        client=[Dribble(line(b"X-A: b\t c ")), Answer(200)],
        sees=(Seen("GET", "/", has={"x-a": "b\t c", "x-after": "2"}),)),
    forwarded("Up to four empty lines before a request line are skipped", "RFC 9112 section 2.2",
              b"\r\n" * 4 + GET + b"\r\n", Seen("GET", "/")),

    # The colon.
    refused("A space before the colon is refused", "CVE-2019-16276", line(b"X-A : b"), "bad_request"),
    refused("A tab before the colon is refused", "CVE-2021-22959", line(b"X-A\t: b"), "bad_request"),
    refused("A space before the colon of Transfer-Encoding is refused", "CVE-2019-16869",
            GET + b"Transfer-Encoding : chunked\r\n\r\n0" + END, "bad_request"),
    refused("A space before the colon of Content-Length is refused", "CVE-2018-8004",
            GET + b"Content-Length : 5\r\n\r\nhello", "bad_request"),
    refused("A space before the colon of Host is refused", "RFC 9112 section 5.1", b"GET / HTTP/1.1\r\nHost : a" + END,
            "bad_request"),
    refused("A field line without a colon is refused", "CVE-2019-20444", line(b"nonsense"), "bad_request"),
    refused("A field line of one word that is framing is refused", "CVE-2019-20444", line(b"Transfer-Encoding"),
            "bad_request"),
    refused("An empty name is refused", "CVE-2023-25725", line(b": b"), "bad_request"),
    refused("An empty name before framing does not hide it", "CVE-2023-25725", line(b":\r\nTransfer-Encoding: chunked"),
            "bad_request"),

    # Folding and white space before a name.
    refused("A folded value is refused", "RFC 9112 section 5.2", line(b"X-A: b\r\n c"), "bad_request"),
    refused("A value folded with a tab is refused", "RFC 9112 section 5.2", line(b"X-A: b\r\n\tc"), "bad_request"),
    refused("A value folded onto an empty line is refused", "RFC 9112 section 5.2", line(b"X-A: b\r\n \r\n c"),
            "bad_request"),
    refused("A folded Host is refused", "CVE-2016-8743", b"GET / HTTP/1.1\r\nHost:\r\n a" + END, "bad_request"),
    refused("A space before the first field is refused", "RFC 9112 section 2.2", b"GET / HTTP/1.1\r\n Host: a" + END,
            "bad_request"),
    refused("A tab before the first field is refused", "RFC 9112 section 2.2", b"GET / HTTP/1.1\r\n\tHost: a" + END,
            "bad_request"),
    refused("A space before Content-Length does not hide it", "CVE-2024-27982",
            GET + b" Content-Length: 5\r\n\r\nhello", "bad_request"),
    refused("A space before the first field does not make it part of the request line", "CVE-2016-8743",
            b"GET / HTTP/1.1\r\n Content-Length: 5\r\nHost: a\r\n\r\nhello", "bad_request"),

    # Control octets.
    *[refused(f"{name} in a value is refused", source, line(b"X-A: b" + octet + b"c"), "bad_request") for name, source,
      octet in (
        ("NUL", "CVE-2019-9900", b"\x00"), ("A bare carriage return", "RFC 9112 section 2.2", b"\r"),
        ("A vertical tab", "RFC 9110 section 5.5", b"\x0b"), ("A form feed", "RFC 9110 section 5.5", b"\x0c"),
        ("An escape", "RFC 9110 section 5.5", b"\x1b"), ("DEL", "RFC 9110 section 5.5", b"\x7f"),
        ("SOH", "RFC 9110 section 5.5", b"\x01"))],
    *[refused(f"{name} in a name is refused", source, line(b"X-A" + octet + b"B: c"), "bad_request") for name, source,
      octet in (
        ("NUL", "CVE-2019-9900", b"\x00"), ("A carriage return", "CVE-2020-8201", b"\r"),
          ("A space", "RFC 9110 section 5.1", b" "),
        ("A quote", "RFC 9110 section 5.1", b'"'), ("A parenthesis", "RFC 9110 section 5.1", b"("),
        ("A slash", "RFC 9110 section 5.1", b"/"), ("An at sign", "RFC 9110 section 5.1", b"@"),
        ("A bracket", "RFC 9110 section 5.1", b"["), ("A backslash", "RFC 9110 section 5.1", b"\\"),
        ("A comma", "RFC 9110 section 5.1", b","), ("A semicolon", "RFC 9110 section 5.1", b";"),
        ("A brace", "RFC 9110 section 5.1", b"{"), ("An octet above ASCII", "RFC 9110 section 5.1", b"\xe4"),
        ("DEL", "RFC 9110 section 5.1", b"\x7f"))],
    refused("`Content\\rLength` is not Content-Length", "CVE-2020-8201", GET + b"Content\rLength: 5\r\n\r\nhello",
            "bad_request"),
    refused("`Transfer\\0-Encoding` is refused", "CVE-2019-9900",
            GET + b"Transfer\x00-Encoding: chunked\r\n\r\n0" + END, "bad_request"),

    # Line ends.
    refused("A bare line feed does not end a field", "CVE-2022-32214", line(b"X-A: b\nX-B: c"), "bad_request"),
    refused("A bare line feed does not end a field, not the last one either", "CVE-2019-16785", GET + b"X-A: b\n\r\n",
            "bad_request"),
    refused("Bare line feeds do not end a head", "CVE-2019-16785", b"GET / HTTP/1.1\r\nHost: a\n\n", "bad_request"),
    refused("A bare line feed does not end a request line", "RFC 9112 section 2.2", b"GET / HTTP/1.1\nHost: a" + END,
            "bad_request"),
    refused("A carriage return twice before the line feed is refused", "RFC 9112 section 2.2", line(b"X-A: b\r"),
            "bad_request"),
    refused("A field that begins with a carriage return is refused", "CVE-2023-30589",
            GET + b"X-A: b\r\n\rX-B: c" + END, "bad_request"),
    refused("An empty field ended by a bare carriage return does not hide the next", "CVE-2023-30589",
            GET + b"X-A:\rTransfer-Encoding: chunked\r\n\r\n0" + END, "bad_request"),
    refused("CRLF, CR and an octet do not end a head", "CVE-2025-23167", GET + b"X-A: b\r\n\rX", "bad_request"),
    refused("A bare carriage return does not end the head", "CVE-2022-35256", GET + b"X-A: b\r\r\n", "bad_request"),
    refused("A bare line feed before a request line is no empty line", "RFC 9112 section 2.2", b"\n" + GET + b"\r\n",
            "bad_request"),
    refused("A bare carriage return before a request line is no empty line", "RFC 9112 section 2.2",
            b"\r" + GET + b"\r\n", "bad_request"),
    refused("Empty lines before a request line are bounded", "RFC 9112 section 2.2", b"\r\n" * 5 + GET + b"\r\n",
            "bad_request"),
    Row("A malformed field that comes octet by octet is the same fault", "CVE-2021-22959",
        client=[Dribble(GET + b"X-A :"), b" b" + END + SMUGGLED, Refused("bad_request")]),

    # Names that pass for others.
    *[passes(f"`{name.decode()}` never passes for X-Forwarded-*", "RFC 7239 section 8.1", name + b": 1.2.3.4",
             has={"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http"}, lacks=(name.decode(),))
      for name in (b"X_Forwarded_For", b"x_forwarded_for", b"X-Forwarded_For", b"X_Forwarded-For", b"X_FORWARDED_PROTO",
                   b"X-Forwarded_Host", b"x_forwarded_port", b"X_Forwarded_Prefix", b"X.Forwarded.For",
                   b"X-Forwarded~For")],
    *[forwarded(f"`{name.decode()}` never passes for framing", "RFC 9112 section 11.2", line(name + b": 7"),
                Seen("GET", "/", framing="none", lacks=(name.decode(),)))
      for name in (b"Content_Length", b"content_length", b"Transfer_Encoding")],
    passes("`Proxy` never becomes HTTP_PROXY of a CGI program", "CVE-2016-5385", b"Proxy: http://evil.example/",
           lacks=("proxy",)),
    passes("`X_Request_Id` never passes for our own", "RFC 9110 section 7.6.3", b"X_Request_Id: mine",
           lacks=("x_request_id",)),
)
