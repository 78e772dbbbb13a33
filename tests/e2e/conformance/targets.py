"""Requests, item 4 of the issue: Host, the forms of a target, methods and versions; path and query untouched."""

from conformance.case import GET, POST, SMUGGLED, Row, Seen, forwarded, refused, table
from conformance.steps import Answer, Dribble, Failed, Refused

END = b"\r\n\r\n"


def untouched(what, target, source="RFC 9112 section 3.2.1"):
    return forwarded(f"The target `{target.decode()}` arrives as it is: {what}", source,
                     b"GET " + target + b" HTTP/1.1\r\nHost: a" + END, Seen("GET", target.decode(), has={"host": "a"}))


def host(value):
    return b"GET / HTTP/1.1\r\nHost: " + value + END


def good_host(what, value):
    return forwarded(f"Host may be {what}", "RFC 9110 section 7.2", host(value),
                     Seen("GET", "/", has={"host": value.decode(), "x-forwarded-host": value.decode()}))


def bad_host(what, value, source="RFC 9112 section 3.2"):
    return refused(f"Host with {what} is refused", source, host(value), "bad_host")


def absolute(what, target, source="RFC 9112 section 3.2.2", seen="/", authority="b", method=b"GET"):
    return forwarded(f"Absolute form: {what}", source, method + b" " + target + b" HTTP/1.1\r\nHost: a" + END,
                     Seen(method.decode(), seen, has={"host": authority, "x-forwarded-host": authority}))


def bad_line(name, octets, reason="bad_target", source="RFC 9112 section 3"):
    return refused(name, source, octets + b"\r\nHost: a" + END, reason)


table(
    "targets",

    # Path and query.
    untouched("%2F is no slash", b"/a%2Fb%2fc", "CVE-2021-29492"),
    untouched("slashes are not merged", b"//a///b//"),
    untouched("dots are not resolved", b"/a/../b/./c/..", "CVE-2019-9901"),
    untouched("encoded dots are not decoded", b"/%2e%2e/%2E"),
    untouched("parameters of segments stay", b"/a;b=c/d;e"),
    untouched("an empty query stays", b"/a?"),
    untouched("an empty path with a query stays", b"/?"),
    untouched("a question mark in a query is data", b"/a?b?c=/d//e"),
    untouched("semicolons and odd parameters of a query stay", b"/?a=1;b=2&c&=&%zz", "CVE-2022-2880"),
    untouched("a broken percent sign stays", b"/a%zz%"),
    untouched("an encoded NUL stays encoded", b"/a%00b"),
    untouched("an encoded line end stays encoded", b"/a%0d%0aHost:%20evil", "CVE-2023-25690"),
    untouched("plus signs and capitals stay", b"/A+b%C3%a9"),
    untouched("a path that looks like a URL is a path", b"/http://b/"),
    untouched("two slashes and a name are no authority", b"//evil.example/x"),
    untouched("octets that a URI should encode stay", b'/"<>\\^`{|}'),
    untouched("a colon at the front stays", b"/:80/@a"),
    untouched("a backslash is no slash", b"/\\\\evil.example"),

    # Host.
    good_host("a name", b"example.org"),
    good_host("in capitals", b"Example.ORG"),
    good_host("a name and a port", b"example.org:8080"),
    good_host("a name and a colon", b"example.org:"),
    good_host("an address of IPv4", b"192.0.2.1"),
    good_host("an address of IPv6", b"[2001:db8::1]"),
    good_host("an address of IPv6 with a port", b"[::1]:8080"),
    good_host("a name with percent-encoding", b"a%20b"),
    good_host("a name with an underscore and a dot at its end", b"a_b.example."),
    refused("HTTP/1.1 without Host is refused", "RFC 9112 section 3.2", b"GET / HTTP/1.1\r\nX-A: b" + END, "bad_host"),
    refused("Two Host fields are refused", "RFC 9112 section 3.2", GET + b"Host: b" + END, "bad_host"),
    refused("The same Host twice is refused", "RFC 9112 section 3.2", GET + b"Host: a" + END, "bad_host"),
    refused("A second Host with other case is a second one", "RFC 9112 section 3.2", GET + b"hOST: b" + END,
            "bad_host"),
    refused("Two Host fields are refused in HTTP/1.0, too", "RFC 9112 section 3.2",
            b"GET / HTTP/1.0\r\nHost: a\r\nHost: b" + END, "bad_host"),
    refused("Two Host fields are refused although the target names the authority", "RFC 9112 section 3.2",
            b"GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b" + END, "bad_host"),
    refused("An absolute form does not stand in for Host", "RFC 9112 section 3.2",
            b"GET http://b/ HTTP/1.1\r\nX-A: b" + END, "bad_host"),
    refused("An invalid Host is refused although the target names the authority", "RFC 9112 section 3.2",
            b"GET http://b/ HTTP/1.1\r\nHost: a/b" + END, "bad_host"),
    Row("The answer to a HEAD whose Host is bad has no body", "RFC 9110 section 9.3.2",
        client=[b"HEAD / HTTP/1.1\r\nHost: a/b" + END + SMUGGLED, Refused("bad_host", to="HEAD")]),
    bad_host("nothing", b""),
    bad_host("a port alone", b":80"),
    bad_host("a path", b"a/b"),
    bad_host("user information", b"me@a"),
    bad_host("user information and a password", b"me:secret@a:80"),
    bad_host("a space inside", b"a b", "CVE-2019-18802"),
    bad_host("a comma-separated second name and a space", b"a, b"),
    bad_host("a scheme", b"http://a"),
    bad_host("a query", b"a?b"),
    bad_host("a fragment", b"a#b"),
    bad_host("a port that is no number", b"a:b"),
    bad_host("a port over 65535", b"a:65536"),
    bad_host("two ports", b"a:80:80"),
    bad_host("a negative port", b"a:-1"),
    bad_host("a backslash", b"a\\b"),
    bad_host("a broken percent-encoding", b"a%2"),
    bad_host("IPv6 without brackets", b"2001:db8::1"),
    bad_host("an open bracket", b"[::1"),
    bad_host("something behind the bracket", b"[::1]a"),
    bad_host("brackets around a name", b"[a]"),
    bad_host("a zone of IPv6", b"[fe80::1%25eth0]"),
    bad_host("an octet above ASCII", b"\xe4.example"),
    bad_host("a quote", b'a"b'),

    # Absolute form.
    absolute("its authority wins and replaces Host", b"http://b/x?y", seen="/x?y", source="RFC 9112 section 3.2.2"),
    absolute("its port is part of Host", b"http://b:81/", authority="b:81"),
    absolute("https is a scheme as well", b"https://b/x", seen="/x"),
    absolute("the scheme has no case", b"HTTP://b/x", seen="/x"),
    absolute("without a path it asks for `/`", b"http://b"),
    absolute("without a path, its query follows `/`", b"http://b?q=1", seen="/?q=1"),
    absolute("the path is untouched", b"http://b//a/%2F/../?", seen="//a/%2F/../?"),
    absolute("IPv6 stays in brackets", b"http://[::1]:80/", authority="[::1]:80"),
    absolute("OPTIONS without a path asks for `*`", b"http://b", method=b"OPTIONS", seen="*",
             source="RFC 9112 section 3.2.4"),
    absolute("OPTIONS with a path asks for that", b"http://b/", method=b"OPTIONS", source="RFC 9112 section 3.2.4"),
    Row("Absolute form in HTTP/1.0 needs no Host", "RFC 9112 section 3.2.2",
        client=[b"GET http://b/x HTTP/1.0" + END, Answer(200, b"GET /x\n", closes=True)],
        sees=(Seen("GET", "/x", has={"host": "b"}),)),
    bad_line("User information in a target is refused", b"GET http://me@b/ HTTP/1.1", source="RFC 9110 section 4.2.4"),
    bad_line("User information with a password in a target is refused", b"GET http://me:x@b/ HTTP/1.1",
             source="RFC 9110 section 4.2.4"),
    bad_line("An absolute form without an authority is refused", b"GET http:///x HTTP/1.1",
             source="RFC 9110 section 4.2.1"),
    bad_line("An absolute form with a port alone is refused", b"GET http://:80/ HTTP/1.1",
             source="RFC 9110 section 4.2.1"),
    bad_line("An absolute form with a bad port is refused", b"GET http://b:x/ HTTP/1.1",
             source="RFC 9110 section 4.2.1"),
    bad_line("An absolute form with a backslash in its authority is refused", b"GET http://b\\@c/ HTTP/1.1",
             source="RFC 9110 section 4.2.1"),
    bad_line("A scheme other than http and https is refused", b"GET ftp://b/ HTTP/1.1", source="CVE-2019-17559"),
    bad_line("A scheme with a single slash is refused", b"GET http:/b HTTP/1.1", source="CVE-2019-17559"),
    bad_line("A scheme without slashes is refused", b"GET http:b HTTP/1.1", source="CVE-2019-17559"),

    # Other forms.
    bad_line("`*` goes with OPTIONS alone", b"GET * HTTP/1.1", source="RFC 9112 section 3.2.4"),
    bad_line("`*` does not go with POST", b"POST * HTTP/1.1", source="RFC 9112 section 3.2.4"),
    bad_line("`*` with something behind it is refused", b"OPTIONS *x HTTP/1.1", source="RFC 9112 section 3.2.4"),
    bad_line("Authority form is refused", b"GET b:80 HTTP/1.1", source="RFC 9112 section 3.2.3"),
    bad_line("A relative path is refused", b"GET x/y HTTP/1.1"),
    bad_line("A query without a path is refused", b"GET ?x HTTP/1.1"),
    bad_line("A target that begins with a percent sign is refused", b"GET %2Fx HTTP/1.1"),
    bad_line("A fragment is refused", b"GET /a#b HTTP/1.1", source="CVE-2023-45539"),
    bad_line("An empty fragment is refused", b"GET /a# HTTP/1.1", source="CVE-2021-32779"),
    bad_line("A fragment in an absolute form is refused", b"GET http://b/#c HTTP/1.1", source="CVE-2021-27577"),
    bad_line("A fragment at the end of an authority is refused", b"GET http://b#@c/ HTTP/1.1", source="CVE-2021-27577"),
    *[bad_line(f"{name} in a target is refused", b"GET /a" + octet + b"b HTTP/1.1", source=source) for name, source,
      octet in (
        ("A tab", "CVE-2016-8743", b"\t"), ("NUL", "RFC 9112 section 3.2", b"\x00"),
          ("SOH", "RFC 9112 section 3.2", b"\x01"),
        ("A vertical tab", "CVE-2016-8743", b"\x0b"), ("An escape", "RFC 9112 section 3.2", b"\x1b"),
        ("DEL", "RFC 9112 section 3.2", b"\x7f"), ("An octet above ASCII", "RFC 9112 section 3.2", b"\xe4"))],
    bad_line("A space in a target is refused", b"GET /a b HTTP/1.1", "bad_request", source="CVE-2013-4547"),
    bad_line("A bare carriage return in a target is refused", b"GET /a\rb HTTP/1.1", source="CVE-2022-32214"),
    bad_line("Two spaces before a target are refused", b"GET  / HTTP/1.1", "bad_request", source="CVE-2016-8743"),
    bad_line("Two spaces behind a target are refused", b"GET /  HTTP/1.1", "bad_request", source="CVE-2016-8743"),
    bad_line("A tab for a space is refused", b"GET\t/\tHTTP/1.1", "bad_request", source="CVE-2016-8743"),
    bad_line("A space behind the version is refused", b"GET / HTTP/1.1 ", "bad_request", source="RFC 9112 section 3"),
    bad_line("A second version is refused", b"GET / HTTP/1.1 HTTP/1.1", "bad_request", source="RFC 9112 section 3"),
    bad_line("A space before the method is refused", b" GET / HTTP/1.1", "bad_request", source="CVE-2016-8743"),
    Row("A fragment that comes octet by octet is the same fault", "CVE-2023-45539",
        client=[Dribble(b"GET /a#"), b"b HTTP/1.1\r\nHost: a" + END + SMUGGLED, Refused("bad_target")]),

    # Methods.
    *[forwarded(f"The method {method} passes", "RFC 9110 section 9.1",
                method.encode() + b" /m HTTP/1.1\r\nHost: a" + END,
                Seen(method, "/m")) for method in ("DELETE", "OPTIONS", "PATCH", "PROPFIND", "QUERY")],
    bad_line("CONNECT is not served", b"CONNECT b:443 HTTP/1.1", "method_not_allowed", source="RFC 9110 section 9.3.6"),
    bad_line("CONNECT with a path is not served", b"CONNECT / HTTP/1.1", "method_not_allowed",
             source="RFC 9110 section 9.3.6"),
    bad_line("A method that nobody knows is not implemented", b"BREW /pot HTTP/1.1", "method_not_implemented",
             source="RFC 9110 section 9.1"),
    bad_line("Methods have case", b"get / HTTP/1.1", "method_not_implemented", source="RFC 9110 section 9.1"),
    bad_line("A method with a suffix is another method", b"GETX / HTTP/1.1", "method_not_implemented",
             source="RFC 9110 section 9.1"),
    bad_line("A method that is no token is refused", b"G(T / HTTP/1.1", "bad_request", source="RFC 9110 section 9.1"),
    bad_line("A method with NUL is refused", b"GE\x00T / HTTP/1.1", "bad_request", source="RFC 9110 section 9.1"),
    refused("The preface of HTTP/2 is no request of HTTP/1", "RFC 9113 section 3.4",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "method_not_implemented"),
    refused("A hello of TLS is no request", "RFC 9112 section 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + END,
            "bad_request"),
    Row("TRACE is not served unless the route names it", "RFC 9110 section 9.3.8",
        client=[b"TRACE / HTTP/1.1\r\nHost: a" + END, Failed("method_not_allowed")]),

    # Versions.
    refused("HTTP/0.9 is refused", "CVE-2017-7656", b"GET /\r\n", "bad_request"),
    refused("HTTP/0.9 with fields is refused", "CVE-2017-7656", b"GET /\r\nHost: a" + END, "bad_request"),
    bad_line("HTTP/0.9 by name is refused", b"GET / HTTP/0.9", "version_not_supported", source="CVE-2017-7656"),
    *[bad_line(f"HTTP/{version} is not supported", b"GET / HTTP/" + version.encode(), "version_not_supported",
               source="RFC 9110 section 2.5") for version in ("1.2", "1.9", "2.0", "3.0", "0.0")],
    *[bad_line(f"`{version.decode()}` is no version", b"GET / " + version, "bad_request", source="RFC 9112 section 2.3")
      for version in (b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/11", b"HTTP/1.1x", b"HTTP/1.10", b"HTTP/01.1",
                      b"HTTP/+1.1",
                      b"http/1.1", b"HTTPS/1.1", b"HTTP 1.1", b"HTTP/1,1", b"ICE/1.0", b"RTSP/1.0")],
)
