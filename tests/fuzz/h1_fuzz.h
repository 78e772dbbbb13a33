#pragma once

// What both HTTP/1 targets hold: how octets are cut changes nothing, what was decoded, encoded and
// decoded again is the same, and another reader sees the same bodies. The input is plain HTTP, so
// that the corpus can be read.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "common/units.h"
#include "proxy/http/h1_encoder.h"
#include "tests/fuzz/h1_strict_reader.h"
#include "tests/support/h1_transcript.h"

namespace tidegate::h1_fuzz {

inline void Require(bool holds, const char* what, std::string_view one, std::string_view other) {
  if (!holds) {
    std::fprintf(stderr, "%s\n---\n%.*s\n---\n%.*s\n", what, static_cast<int>(one.size()),
                 one.data(), static_cast<int>(other.size()), other.data());
    std::abort();
  }
}

// Pieces of 1 to 16 octets, in one run of three of up to 2,048; others in every run but the same
// for the same input.
inline h1_transcript::Cut Pieces(std::string_view input, unsigned run) {
  std::minstd_rand random(static_cast<unsigned>(std::hash<std::string_view>()(input)) + run);
  const std::size_t most = run % 3 == 2 ? 2048 : 16;
  return [random, most](std::size_t left) mutable { return 1 + random() % std::min(left, most); };
}

// `read(input, options, cut)` is ReadRequests or ReadResponses.
template <class Read>
void CutEveryWay(std::string_view input, const h1_transcript::Options& options, const Read& read) {
  const std::string whole = read(input, options, h1_transcript::Cut(h1_transcript::Whole)).Text();
  const std::string octets =
      read(input, options, h1_transcript::Cut(h1_transcript::OctetByOctet)).Text();
  Require(octets == whole, "octet by octet", whole, octets);
  for (unsigned run = 0; run < 3; ++run) {
    const std::string pieces = read(input, options, Pieces(input, run)).Text();
    Require(pieces == whole, "in pieces", whole, pieces);
  }
}

// The codec may refuse more than `other` does, but what it takes, it takes in the same way.
inline void Agree(const h1_transcript::Transcript& transcript, StrictReader other,
                  std::string_view input) {
  const std::vector<std::string> bodies = other.Bodies();
  const std::size_t count = transcript.bodies.size();
  Require(transcript.error.empty() ? bodies.size() == count : bodies.size() >= count,
          "another number of messages", input, transcript.Text());
  for (std::size_t index = 0; index < count; ++index) {
    Require(bodies[index] == transcript.bodies[index], "another body", bodies[index],
            transcript.bodies[index]);
  }
}

inline h1_transcript::Options SmallLimits() {
  h1_transcript::Options options;
  options.limits = {.max_head_bytes = 192, .max_fields = 4, .max_url_bytes = 24};
  return options;
}

inline void AppendBody(const Head& head, std::string_view body, std::string& out) {
  if (head.body != BodyKind::kChunked) {
    out += body;
    return;
  }
  if (!body.empty()) {
    EncodeChunkSize(body.size(), out);
    out.append(body).append("\r\n");
  }
  EncodeLastChunk(head.trailers, out);
}

// The fields that survive encoding.
inline std::string EndToEnd(const Fields& fields) {
  std::string text;
  for (const Field& field : fields) {
    switch (field.id) {
      case FieldId::kHost:
      case FieldId::kConnection:
      case FieldId::kContentLength:
      case FieldId::kKeepAlive:
      case FieldId::kProxyConnection:
      case FieldId::kTe:
      case FieldId::kTransferEncoding:
      case FieldId::kUpgrade:
        break;
      default:
        text.append(field.name).append(": ").append(field.value).append("\n");
    }
  }
  return text;
}

// Reads one message of `octets`; false if there is none.
template <class HeadType>
bool DecodeOne(H1Decoder& decoder, std::string& octets, HeadType& head, std::string& body) {
  body.clear();
  std::size_t at = 0;
  while (at < octets.size()) {
    auto step = decoder.Decode({octets.data() + at, octets.size() - at});
    if (!step) {
      return false;
    }
    body.append(step->body.begin(), step->body.end());
    at += step->consumed;
    if (step->end) {
      octets.erase(0, at);
      return true;
    }
  }
  // What is left needs the end of the connection.
  octets.clear();
  return head.body == BodyKind::kUntilClose && decoder.Finish().has_value();
}

inline const DecoderLimits kNoLimits = {
    .max_head_bytes = kUnlimited, .max_fields = kUnlimited, .max_url_bytes = kUnlimited};

// `encode(head, out)` and `begin(decoder, head)` are those of the message's kind.
template <class HeadType, class Encode, class Begin>
void RoundTrip(const HeadType& head, std::string_view body, H1Decoder decoder, const Encode& encode,
               const Begin& begin) {
  std::string out;
  encode(head, out);
  AppendBody(head, body, out);
  HeadType again;
  std::string again_body;
  std::string left = out;
  begin(decoder, again);
  Require(DecodeOne(decoder, left, again, again_body) && left.empty(), "not decoded again", out,
          left);
  Require(again_body == body, "body", body, again_body);
  const std::string fields = EndToEnd(head.fields);
  const std::string again_fields = EndToEnd(again.fields);
  Require(fields == again_fields, "fields", fields, again_fields);
  std::string again_out;
  encode(again, again_out);
  AppendBody(again, again_body, again_out);
  Require(out == again_out, "encoded again", out, again_out);
}

}  // namespace tidegate::h1_fuzz
