"""HPACK (RFC 7541) broken in every way that a decoder must notice: a connection error, since the tables of both sides may
differ from then on."""

from conformance_h2.case import ASKED_AGAIN, Row, Seen, dies, served, table
from conformance_h2.steps import Alive, Answer
from support import hpack
from support.h2_frames import COMPRESSION_ERROR, asking, continuation, headers


def broken(name, section, *pieces, h2spec=""):
    """A block that ends with these pieces."""
    return dies(name, "RFC 7541 section " + section, headers(1, *asking(), *pieces), COMPRESSION_ERROR, h2spec=h2spec)


def coded_value(bits):
    """`x-a` with a value of these Huffman bits."""
    octets = hpack.packed(bits)
    return b"\x00" + hpack.string("x-a") + hpack.integer(len(octets), 7, 128) + octets


A = hpack.CODES[ord("a")]  # five bits

table(
    "compression",

    broken("An indexed field beyond both tables", "2.3.3", hpack.indexed(70), h2spec="hpack/2.3.3"),
    broken("A literal whose name is beyond both tables", "2.3.3", hpack.added(70, "x"), h2spec="hpack/2.3.3"),
    broken("A literal that is not added, with a name beyond both tables", "2.3.3", hpack.literal(70, "x")),
    broken("The first index beyond the static table, when nothing was added", "2.3.3", hpack.indexed(62)),
    broken("An index of 2^31", "5.1", hpack.indexed(2**31)),
    broken("An index of 0", "6.1", hpack.indexed(0), h2spec="hpack/6.1"),
    broken("A change of the table size behind a field", "4.2", hpack.table_size(0), h2spec="hpack/4.2"),
    dies("A change of the table size between fields", "RFC 7541 section 4.2",
         headers(1, hpack.indexed(2), hpack.table_size(0), *asking(method=None)), COMPRESSION_ERROR),
    dies("A table size above SETTINGS_HEADER_TABLE_SIZE", "RFC 7541 section 6.3",
         headers(1, hpack.table_size(2**20), *asking()), COMPRESSION_ERROR, h2spec="hpack/6.3"),
    dies("A table size of 2^32 - 1", "RFC 7541 section 6.3", headers(1, hpack.table_size(2**32 - 1), *asking()),
         COMPRESSION_ERROR),
    broken("Padding of more than seven bits", "5.2", coded_value(A + "1" * 11), h2spec="hpack/5.2"),
    broken("Padding of zeros", "5.2", coded_value(A + "000"), h2spec="hpack/5.2"),
    broken("EOS within a string", "5.2", coded_value(A + hpack.CODES[hpack.EOS] + "1" * 5), h2spec="hpack/5.2"),
    broken("A string of EOS", "5.2", coded_value(hpack.CODES[hpack.EOS] + "11")),
    broken("A string that is longer than its block", "5.2", b"\x00" + hpack.integer(200, 7) + b"x-a"),
    broken("A block that ends within an integer", "5.1", b"\x00" + b"\x7f\xff"),
    broken("An integer that does not end", "5.1", b"\xff" + b"\x80" * 20 + b"\x01"),
    broken("A length of 2^32", "5.1", b"\x00" + hpack.integer(2**32, 7) + b"x-a"),
    broken("A field whose value is missing", "6.2", b"\x00" + hpack.string("x-a")),
    broken("A name that was evicted", "4.4", hpack.added("x-a", "b"), hpack.added("x-b", "c" * 4050), hpack.indexed(63)),
    Row("A field larger than the table empties it and is no error", "RFC 7541 section 4.4",
        client=[headers(1, *asking(hpack.added("x-a", "b"), hpack.added("x-b", "c" * 5000))), Answer(),
                headers(3, *asking(path="/3")), Answer(3), Alive()],
        sees=(Seen("GET", "/", has={"x-a": "b", "x-b": "c" * 5000}), Seen("GET", "/3"), ASKED_AGAIN)),
    served("An integer in more octets than it needs", "RFC 7541 section 5.1",
           headers(1, *asking(), b"\x00" + hpack.string("x-a") + hpack.integer(200, 7, 0, 1) + b"b" * 200),
           Seen("GET", "/", has={"x-a": "b" * 200})),
    served("A table of no size, and fields that are added to it", "RFC 7541 section 4.2",
           headers(1, hpack.table_size(0), *asking(hpack.added("x-a", "b"))), Seen("GET", "/", has={"x-a": "b"})),
    served("Every octet that a value may have, Huffman-coded", "RFC 7541 section 5.2",
           headers(1, *asking(hpack.literal("x-a", bytes([*range(33, 127), *range(128, 256)]), True))),
           Seen("GET", "/", has={"x-a": bytes([*range(33, 127), *range(128, 256)]).decode("latin-1")})),
    dies("A field cut by CONTINUATION whose end is missing", "RFC 7541 section 5.2",
         headers(1, *asking(), b"\x00\x03x-", whole=False) + continuation(1), COMPRESSION_ERROR),
)
