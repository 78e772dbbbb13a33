"""HPACK (RFC 7541) for a client that owns every octet: an encoder without memory, whose parts can be put together wrongly,
and a strict decoder with both tables and Huffman codes."""

STATIC = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", "")]

EOS = 256

# RFC 7541 appendix B: the code is canonical, so the symbols of each length, in order, say all.
_SYMBOLS = {
    5: b"012aceiost", 6: b" %-./3456789=A_bdfghlmnpru", 7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", 8: b"&*,;XZ",
    10: b"!\"()?", 11: b"'+|", 12: b"#>", 13: b"\x00$@[]~", 14: b"^}", 15: b"<`{", 19: b"\\\xc3\xd0",
    20: [128, 130, 131, 162, 184, 194, 224, 226],
    21: [153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230],
    22: [129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196,
         198, 228, 232, 233],
    23: [1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180,
         182, 183, 188, 191, 197, 231, 239],
    24: [9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237], 25: [199, 207, 234, 235],
    26: [192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255],
    27: [203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254],
    28: [2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249],
    30: [10, 13, 22, EOS]}


def _canonical():
    codes, code, previous = {}, 0, 5
    for length, symbols in _SYMBOLS.items():
        code <<= length - previous
        previous = length
        for symbol in symbols:
            codes[symbol] = format(code, f"0{length}b")
            code += 1
    assert code == 1 << 30, "the code is complete"
    return codes


CODES = _canonical()
_BY_CODE = {code: symbol for symbol, code in CODES.items()}
_LENGTHS = list(_SYMBOLS)
_BITS = [format(octet, "08b") for octet in range(256)]


class BadBlock(AssertionError):
    """The peer's header block breaks RFC 7541."""


# Encoding. Everything here is a piece of a header block; a block is the pieces joined.

def integer(value, prefix, flags=0, padding=0):
    """RFC 7541 section 5.1. `padding`: octets more than are needed, of a value that does not fit into the prefix."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([flags | value])
    octets, value = [flags | limit], value - limit
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes(octets + ([value | 128] + [128] * (padding - 1) + [0] if padding else [value]))


def packed(bits):
    """Octets of a text of binary digits whose length is a multiple of 8."""
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def huffman(octets):
    bits = "".join(CODES[octet] for octet in octets)
    return packed(bits + "1" * (-len(bits) % 8))


def octets_of(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def string(text, coded=False):
    """RFC 7541 section 5.2."""
    octets = octets_of(text)
    if coded:
        octets = huffman(octets)
    return integer(len(octets), 7, 128 if coded else 0) + octets


def indexed(index):
    return integer(index, 7, 128)


def _literal(name, value, prefix, flags, coded):
    if isinstance(name, int):
        return integer(name, prefix, flags) + string(value, coded)
    return bytes([flags]) + string(name, coded) + string(value, coded)


def literal(name, value, coded=False):
    """Without indexing. `name`: text, octets, or an index."""
    return _literal(name, value, 4, 0, coded)


def never(name, value, coded=False):
    """Never indexed."""
    return _literal(name, value, 4, 16, coded)


def added(name, value, coded=False):
    """With incremental indexing: both sides put it into their dynamic tables."""
    return _literal(name, value, 6, 64, coded)


def table_size(octets):
    return integer(octets, 5, 32)


def block(*fields):
    """A whole block: (name, value) pairs without indexing, pieces as they are."""
    return b"".join(one if isinstance(one, bytes) else literal(*one) for one in fields)


# Decoding.

class Decoder:
    """One connection's decoder, for a SETTINGS_HEADER_TABLE_SIZE that was not changed yet."""

    def __init__(self):
        self.limit = self.size_limit = 4096  # what we allow; what the peer's encoder has chosen
        self.owed = False  # RFC 7541 section 4.2: the next block has to begin with a change of the size
        self.entries = []  # newest first
        self.size = 0

    def allow(self, limit):
        """The peer has taken this SETTINGS_HEADER_TABLE_SIZE."""
        self.limit = limit
        self.owed = limit < self.size_limit

    def decode(self, octets):
        """The fields of a block, as (name, value) texts."""
        fields, at, fields_began = [], 0, False
        if self.owed and octets[:1] and octets[0] & 0xe0 != 32:
            raise BadBlock(f"the encoder ignores our table size {self.limit}")
        self.owed = False
        while at < len(octets):
            first = octets[at]
            if first & 128:
                index, at = self._integer(octets, at, 7)
                fields.append(self._entry(index))
            elif first & 0xe0 == 32:
                if fields_began:
                    raise BadBlock("a change of the table size behind a field")
                size, at = self._integer(octets, at, 5)
                if size > self.limit:
                    raise BadBlock(f"the table size {size} is above our {self.limit}")
                self.size_limit = size
                self._evict(0)
                continue
            else:
                adds = first & 0xc0 == 64
                index, at = self._integer(octets, at, 6 if adds else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = self._string(octets, at)
                value, at = self._string(octets, at)
                fields.append((name, value))
                if adds:
                    self._add(name, value)
            fields_began = True
        return fields

    def _entry(self, index):
        if 1 <= index <= len(STATIC):
            return STATIC[index - 1]
        index -= len(STATIC) + 1
        if not 0 <= index < len(self.entries):
            raise BadBlock(f"an index beyond both tables: {index + len(STATIC) + 1}")
        return self.entries[index]

    def _add(self, name, value):
        size = len(name) + len(value) + 32
        self._evict(size)
        if size <= self.size_limit:
            self.entries.insert(0, (name, value))
            self.size += size

    def _evict(self, room):
        while self.entries and self.size + room > self.size_limit:
            name, value = self.entries.pop()
            self.size -= len(name) + len(value) + 32

    @staticmethod
    def _integer(octets, at, prefix):
        try:
            limit = (1 << prefix) - 1
            value = octets[at] & limit
            at += 1
            shift = 0
            while value >= limit and (shift == 0 or octets[at - 1] & 128):
                value += (octets[at] & 127) << shift
                shift += 7
                at += 1
                if shift > 35:
                    raise BadBlock("an integer that is too long")
            return value, at
        except IndexError:
            raise BadBlock("the block ends within an integer") from None

    def _string(self, octets, at):
        if at >= len(octets):
            raise BadBlock("the block ends before a string")
        coded = octets[at] & 128
        length, at = self._integer(octets, at, 7)
        raw = octets[at:at + length]
        if len(raw) != length:
            raise BadBlock("the block ends within a string")
        return (decoded(raw) if coded else raw).decode("latin-1"), at + length


def decoded(octets):
    """What Huffman-coded `octets` stand for."""
    bits = "".join(map(_BITS.__getitem__, octets))
    found, at, end = bytearray(), 0, len(bits)
    while True:
        for length in _LENGTHS:
            symbol = _BY_CODE.get(bits[at:at + length])
            if symbol is not None:
                break
        else:
            break
        if symbol == EOS:
            raise BadBlock("EOS in a string")
        found.append(symbol)
        at += length
    if end - at > 7 or "0" in bits[at:]:
        raise BadBlock("a string is padded wrongly")
    return bytes(found)
