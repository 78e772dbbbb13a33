"""What a request of HTTP/2 must be, RFC 9113 section 8: malformed ones are stream errors that no origin ever sees."""

from conformance.steps import Arrived, Gone, Released, Request
from conformance.steps import Head as ReadsHead
from conformance_h2.case import ASKED_AGAIN, Row, Seen, malformed, served, shown, table
from conformance_h2.steps import Alive, Answer, Malformed, StreamOrConnection
from support import h2_frames as h2
from support.h2_frames import PROTOCOL_ERROR, STREAM_CLOSED, asking, data, get, headers, post

X = ("x-a", "b")
BEGUN = Seen("POST", "/", cut=True, perhaps=True)  # whether the head has gone to the origin is a matter of timing

# A request whose field is malformed is not to be taken for one that lacks the field.
DEFAULTS = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test"))


def bad(name, section, *fields, h2spec="", **more):
    return malformed(name, "RFC 9113 section " + section, headers(1, *fields), h2spec=h2spec, **more)


def bad_field(name, section, *fields, h2spec=""):
    return bad(name, section, *asking(*fields), h2spec=h2spec)


def without(pseudo):
    return [field for field in DEFAULTS if field[0] != pseudo]


def twice(pseudo):
    return [*DEFAULTS, *[field for field in DEFAULTS if field[0] == pseudo]]


def replaced(pseudo, value):
    return [(name, value if name == pseudo else old) for name, old in DEFAULTS]


def bad_end(name, section, *octets, **more):
    """A request whose head is in order and whose end is not: the origin never gets a whole request."""
    return Row(name, "RFC 9113 section " + section,
               client=[b"".join(octets), Malformed(), Alive((1,))], sees=(BEGUN, ASKED_AGAIN), **more)


table(
    "messages",

    # 8.1: the order of frames.
    Row("A second HEADERS without END_STREAM", "RFC 9113 section 8.1",
        client=[post(1) + data(1, b"x") + headers(1, X, end=False), StreamOrConnection((PROTOCOL_ERROR,))], sees=(BEGUN,),
        h2spec="http2/8.1"),
    bad_end("Trailers with END_STREAM twice over", "8.1", post(1), headers(1, X, end=False), headers(1, X)),
    Row("DATA after trailers", "RFC 9113 section 8.1",
        client=[post(1) + headers(1, X), Arrived(1), data(1, b"x"), StreamOrConnection((STREAM_CLOSED,)), Released()],
        origin=[[Request(), Gone()]], sees=(Seen("POST", "/", trailers=[X]),)),
    Row("An answer may end before the request does, and the rest is declined without an error",
        "RFC 9113 section 8.1",
        client=[post(1, "/own/") + data(1, b"part"), Answer(1, 200, b"pong\n"), Alive()], sees=(ASKED_AGAIN,)),

    # 8.2: fields.
    bad_field("A field name in upper case", "8.2.1", ("X-TEST", "ok"), h2spec="http2/8.1.2"),
    *[bad_field(f"A field name with `{shown(name)}`", "8.2.1", (name, "ok"))
      for name in (b"x a", b"x\x00a", b"x\ra", b"x\na", b"x:a", b"x\x7fa", b"x\xe4", b" x", b"x(a)", b"x\ta", b"")],
    *[bad_field(f"A field value with `{shown(value)}`", "8.2.1", ("x-a", value))
      for value in (b"a\x00b", b"a\rb", b"a\nb", b"a\r\nX-Evil: 1", b"\x00")],
    *[bad_field(f"A field value that begins or ends with white space: `{shown(value)}`", "8.2.1", ("x-a", value))
      for value in (b" a", b"a ", b"\ta", b"a\t", b" ")],
    *[bad_field(f"A control octet in a value: `{shown(value)}`", "8.2.1", ("x-a", value))
      for value in (b"a\x01b", b"a\x1bb", b"a\x7fb")],
    served("Octets above ASCII in a value pass", "RFC 9110 section 5.5", get(1, "/", ("x-a", b"\xe4\xff")),
           Seen("GET", "/", has={"x-a": "\xe4\xff"})),
    served("A tab within a value passes", "RFC 9110 section 5.5", get(1, "/", ("x-a", "a\tb  c")),
           Seen("GET", "/", has={"x-a": "a\tb  c"})),
    served("An empty value passes", "RFC 9110 section 5.5", get(1, "/", ("x-a", "")), Seen("GET", "/", has={"x-a": ""})),

    # 8.2.2: fields of the connection.
    bad_field("A field of the connection", "8.2.2", ("connection", "keep-alive"), h2spec="http2/8.1.2.2"),
    *[bad_field(f"The field `{name}: {value}`", "8.2.2", (name, value))
      for name, value in (("connection", "x-a"), ("connection", "close"), ("proxy-connection", "keep-alive"),
                          ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked"),
                          ("transfer-encoding", "identity"), ("upgrade", "websocket"), ("connection", ""))],
    bad_field("TE of something else than trailers", "8.2.2", ("te", "trailers, deflate"), h2spec="http2/8.1.2.2"),
    bad_field("TE of gzip", "8.2.2", ("te", "gzip")),
    served("TE of trailers passes", "RFC 9113 section 8.2.2", get(1, "/", ("te", "trailers"))),

    # 8.3: pseudo-headers.
    bad("An unknown pseudo-header", "8.3", *DEFAULTS, (":test", "ok"), h2spec="http2/8.1.2.1"),
    bad("A pseudo-header of answers", "8.3", *DEFAULTS, (":status", "200"), h2spec="http2/8.1.2.1"),
    bad_end("A pseudo-header in trailers", "8.3", post(1), data(1, b"x"), headers(1, (":method", "GET")),
            h2spec="http2/8.1.2.1"),
    bad("A pseudo-header behind a field", "8.3", X, *DEFAULTS, h2spec="http2/8.1.2.1"),
    bad("One pseudo-header behind a field", "8.3", *without(":path"), X, (":path", "/")),
    bad("A pseudo-header without a name", "8.3", *DEFAULTS, (":", "x")),
    bad(":protocol without CONNECT", "8.3", *DEFAULTS, (":protocol", "websocket")),
    bad("An empty :path", "8.3.1", *replaced(":path", ""), h2spec="http2/8.1.2.3"),
    *[bad(f"No {pseudo}", "8.3.1", *without(pseudo), h2spec="http2/8.1.2.3")
      for pseudo in (":method", ":scheme", ":path")],
    *[bad(f"{pseudo} twice", "8.3.1", *twice(pseudo), h2spec="http2/8.1.2.3")
      for pseudo in (":method", ":scheme", ":path", ":authority")],
    bad("No pseudo-header at all", "8.3.1", X),
    Row("A block without any field", "RFC 9113 section 8.3.1", client=[headers(1), Malformed(), Alive((1,))],
        sees=(ASKED_AGAIN,)),
    *[bad(f"A :method of `{shown(value)}`", "8.3.1", *replaced(":method", value))
      for value in (b"", b"GE T", b"GET\r\n", b"G(T", b"GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\n", b"\xe4")],
    *[bad(f"A :path of `{shown(value)}`", "8.3.1", *replaced(":path", value))
      for value in (b"a", b"/ HTTP/1.1\r\nX-Evil: 1\r\n\r\n", b"/a b", b"/\x00", b"/\r\n", b"/\t", b"*",
                    b"http://test/", b"//\x7f", b"/ ")],
    *[bad(f"A :scheme of `{shown(value)}`", "8.3.1", *replaced(":scheme", value))
      for value in (b"", b"ht tp", b"http://evil/?", b"1http", b"http\r\n")],
    *[bad(f"An :authority of `{shown(value)}`", "8.3.1", *replaced(":authority", value))
      for value in (b"a b", b"a/b", b"user@test", b"a\x00b", b"a\r\nX-Evil: 1", b"a?b", b"a#b", b"test:port", b"a, b",
                    b"[::1", b"a\\b")],
    bad("Host that differs from :authority", "8.3.1", *DEFAULTS, ("host", "other")),
    bad("Host twice", "8.3.1", *without(":authority"), ("host", "test"), ("host", "test")),
    bad("Neither :authority nor Host", "8.3.1", *without(":authority")),
    bad("An empty :authority without Host", "8.3.1", *replaced(":authority", "")),

    # 8.1.1: Content-Length against DATA.
    # In pieces, the origin may have all that was promised before the rest comes.
    bad_end("More DATA than Content-Length says", "8.1.1", post(1, "/", ("content-length", "1")),
            data(1, b"test", end=True), h2spec="http2/8.1.2.6", together=True),
    bad_end("More DATA frames than Content-Length says", "8.1.1", post(1, "/", ("content-length", "1")), data(1, b"te"),
            data(1, b"st", end=True), h2spec="http2/8.1.2.6", together=True),
    bad_end("Less DATA than Content-Length says", "8.1.1", post(1, "/", ("content-length", "9")),
            data(1, b"test", end=True)),
    bad_end("Less DATA than Content-Length says before trailers", "8.1.1", post(1, "/", ("content-length", "9")),
            data(1, b"test"), headers(1, X)),
    bad("Content-Length and no DATA at all", "8.1.1", *asking(("content-length", "4"), method="POST")),
    *[Row(f"A Content-Length of `{shown(value)}`", "RFC 9113 section 8.1.1",
          client=[post(1, "/", ("content-length", value)) + data(1, b"test", end=True), Malformed(), Alive((1,))],
          sees=(ASKED_AGAIN,))
      for value in (b"+4", b"-4", b"0x4", b"4a", b"4 4", b"4, 4", b"4,", b"", b"18446744073709551616", b"4.0")],
    Row("Two different lengths", "RFC 9113 section 8.1.1",
        client=[post(1, "/", ("content-length", "4"), ("content-length", "5")) + data(1, b"test", end=True), Malformed(),
                Alive((1,))], sees=(ASKED_AGAIN,)),
    Row("The same length twice", "RFC 9110 section 8.6",
        client=[post(1, "/", ("content-length", "4"), ("content-length", "4")) + data(1, b"test", end=True), Malformed(),
                Alive((1,))], sees=(ASKED_AGAIN,)),
    Row("A body that breaks off is never completed at the origin", "RFC 9113 section 8.1.1",
        client=[post(1), Arrived(1), data(1, b"part"), h2.rst(1), Released(), Alive((1,))],
        origin=[[ReadsHead(), Gone(quiet=False)]], sees=(Seen("POST", "/", cut=True), ASKED_AGAIN)),
    bad_end("An upper case name in trailers", "8.2.1", post(1), headers(1, ("X-Sum", "7"))),
    bad_end("A line feed in trailers", "8.2.1", post(1), headers(1, ("x-sum", "7\nx"))),
    bad_end("A field of the connection in trailers", "8.2.2", post(1), headers(1, ("transfer-encoding", "chunked"))),
)
