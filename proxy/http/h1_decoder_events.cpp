// What llhttp finds, and what is refused on the way. A rule must not depend on how the input was
// cut: it is applied where something is complete, not where a piece of it is seen.

#include <cstring>
#include <utility>

#include "proxy/http/h1_decoder_state.h"
#include "proxy/http/h1_rules.h"

namespace tidegate {
namespace {

std::string_view TrimEnd(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

constinit const llhttp_settings_t H1Decoder::State::kForRequests = {
    .on_url = OnSpan<&State::OnUrl>,
    .on_version = OnSpan<&State::OnVersion>,
    .on_header_field = OnSpan<&State::OnFieldName>,
    .on_header_value = OnSpan<&State::OnFieldValue>,
    .on_chunk_extension_name = OnSpan<&State::OnChunkExtension>,
    .on_headers_complete = OnEvent<&State::OnHeadersComplete>,
    .on_body = OnSpan<&State::OnBody>,
    .on_message_complete = OnEvent<&State::OnMessageComplete>,
    .on_url_complete = OnEvent<&State::OnUrlComplete>,
    .on_version_complete = OnEvent<&State::OnVersionComplete>,
    .on_header_value_complete = OnEvent<&State::OnFieldComplete>,
    .on_chunk_header = OnEvent<&State::OnChunkHeader>,
    .on_chunk_complete = OnEvent<&State::OnChunkComplete>,
};

constinit const llhttp_settings_t H1Decoder::State::kForResponses = {
    .on_status = OnSpan<&State::OnStatus>,
    .on_header_field = OnSpan<&State::OnFieldName>,
    .on_header_value = OnSpan<&State::OnFieldValue>,
    .on_chunk_extension_name = OnSpan<&State::OnChunkExtension>,
    .on_headers_complete = OnEvent<&State::OnHeadersComplete>,
    .on_body = OnSpan<&State::OnBody>,
    .on_message_complete = OnEvent<&State::OnMessageComplete>,
    .on_version_complete = OnEvent<&State::OnVersionComplete>,
    .on_header_value_complete = OnEvent<&State::OnFieldComplete>,
    .on_chunk_header = OnEvent<&State::OnChunkHeader>,
    .on_chunk_complete = OnEvent<&State::OnChunkComplete>,
};

int H1Decoder::State::OnUrl(std::string_view piece) {
  Join(request().target, piece);
  piece_end = OffsetOf(piece.data()) + piece.size();
  if (request().target.size() > limits.max_url_bytes) {
    Refuse({ErrorKind::kUrlTooLong, "request target is too long"});
    return HPE_USER;
  }
  return HPE_OK;
}

int H1Decoder::State::OnUrlComplete() {
  if (parser.http_minor == 9) {
    // No version followed: llhttp takes it for HTTP/0.9.
    Refuse({ErrorKind::kBadRequest, "request line without a version"});
    return HPE_USER;
  }
  if (auto refused = JudgeTarget(request())) {
    Refuse(*refused);
    return HPE_USER;
  }
  target_complete = true;
  return HPE_OK;
}

int H1Decoder::State::OnVersion(std::string_view piece) {
  constexpr std::uint64_t kBetween = std::string_view(" HTTP/").size();
  if (!version_seen && OffsetOf(piece.data()) != piece_end + kBetween) {
    Refuse({ErrorKind::kBadRequest, "more than one space before the version"});
    return HPE_USER;
  }
  // llhttp also reads "RTSP/1.0", and for some methods more.
  if (!version_seen && is_request()) {
    const std::uint64_t at = piece_end + 1;
    const char first = at >= offset ? slice[at - offset] : protocol_octet;
    if (first != 'H') {
      Refuse({ErrorKind::kBadRequest, "a protocol other than HTTP"});
      return HPE_USER;
    }
  }
  version_seen = true;
  return HPE_OK;
}

int H1Decoder::State::OnVersionComplete() {
  if (parser.http_major != 1 || parser.http_minor > 1) [[unlikely]] {
    return RefuseVersion();
  }
  head->minor_version = parser.http_minor;
  return HPE_OK;
}

// Not inlined, as others below: what is called for every message or field stays small.
[[gnu::noinline]] int H1Decoder::State::RefuseVersion() {
  Refuse({ErrorKind::kVersionNotSupported, "HTTP version other than 1.0 and 1.1"});
  return HPE_USER;
}

int H1Decoder::State::OnStatus(std::string_view piece) {
  Join(response().reason, piece);
  return HPE_OK;
}

int H1Decoder::State::OnFieldName(std::string_view piece) {
  Join(name, piece);
  return HPE_OK;
}

int H1Decoder::State::OnFieldValue(std::string_view piece) {
  Join(value, piece);
  return HPE_OK;
}

void H1Decoder::State::Join(std::string_view& text, std::string_view piece) {
  if (text.empty()) [[likely]] {
    text = piece;
  } else {
    Extend(text, piece);
  }
}

// Rare, and not inlined: what is called for every field stays small.
[[gnu::noinline]] void H1Decoder::State::Extend(std::string_view& text, std::string_view piece) {
  text = text.data() + text.size() == piece.data()
             ? std::string_view(text.data(), text.size() + piece.size())
             : head->arena.Extend(text, piece);
}

int H1Decoder::State::OnFieldComplete() {
  const FieldId id = FieldIdOf(name);
  if (id == FieldId::kOther || phase == Phase::kTrailers) {
    return OnOtherField(id);
  }
  return AddField(head->fields, id);
}

// Any name that we do not know, and all of the trailers.
[[gnu::noinline]] int H1Decoder::State::OnOtherField(FieldId id) {
  const bool in_trailers = phase == Phase::kTrailers;
  Fields& fields = in_trailers ? head->trailers : head->fields;
  const bool unwanted = (in_trailers && IsForbiddenInTrailers(id)) ||
                        (id == FieldId::kOther && is_request() && PassesForKnownField(name));
  if (unwanted && fields.size() < limits.max_fields) [[unlikely]] {
    name = value = {};
    return HPE_OK;
  }
  return AddField(fields, id);
}

[[gnu::noinline]] int H1Decoder::State::RefuseField() {
  Refuse({ErrorKind::kTooManyFields, "too many fields"});
  return HPE_USER;
}

int H1Decoder::State::AddField(Fields& fields, FieldId id) {
  if (fields.size() == limits.max_fields) [[unlikely]] {
    return RefuseField();
  }
  Field& field = fields.Append();
  const std::string_view trimmed = TrimEnd(value);
  field = {name, trimmed, id, IsLine(name, trimmed)};
  name = value = {};
  return HPE_OK;
}

// In the slice stands what Field::line() promises. Of a line that began in an earlier slice nothing
// is known.
bool H1Decoder::State::IsLine(std::string_view field_name, std::string_view field_value) const {
  constexpr std::size_t kTwo = 2;
  const auto place_of = [this](const char* octet) {
    return reinterpret_cast<std::uintptr_t>(octet) - reinterpret_cast<std::uintptr_t>(slice.data());
  };
  const char* after_name = field_name.data() + field_name.size();
  const char* after_value = field_value.data() + field_value.size();
  return place_of(field_name.data()) < slice.size() && field_value.data() == after_name + kTwo &&
         place_of(after_value) + kTwo <= slice.size() && std::memcmp(after_name, ": ", kTwo) == 0 &&
         std::memcmp(after_value, "\r\n", kTwo) == 0;
}

int H1Decoder::State::OnHeadersComplete() {
  constexpr int kSkipBody = 1;
  std::optional<Fault> refused;
  if (is_request()) {
    refused = version_seen ? JudgeRequest(request())
                           : Fault{ErrorKind::kBadRequest, "request line without a version"};
  } else {
    response().status = parser.status_code;
    refused = JudgeResponse(response(), request_method);
  }
  if (refused) {
    Refuse(*refused);
    return HPE_USER;
  }
  if (!is_request() && HasNoBody(response().status, request_method)) {
    step->head = true;
    return kSkipBody;
  }
  if (!LlhttpAgrees()) {
    Refuse({ErrorKind::kBadRequest, "length of the body is ambiguous"});
    return HPE_USER;
  }
  step->head = true;
  switch (head->body) {
    case BodyKind::kChunked:
      return HPE_PAUSED;
    case BodyKind::kUntilClose:
      phase = Phase::kUntilClose;
      return HPE_OK;
    default:
      phase = Phase::kBody;
      return HPE_OK;
  }
}

// llhttp reads the body by its own view of the fields, which differs from ours in places: in a
// response it takes `chunked` followed by a tab for a coding that it does not know, and would give
// us the chunk framing as body.
bool H1Decoder::State::LlhttpAgrees() const {
  const bool chunked = (parser.flags & F_CHUNKED) != 0;
  const bool coded = (parser.flags & F_TRANSFER_ENCODING) != 0;
  const bool has_length = (parser.flags & F_CONTENT_LENGTH) != 0;
  switch (head->body) {
    case BodyKind::kChunked:
      return chunked && (!has_length || !is_request());
    case BodyKind::kLength:
      return has_length && !coded && parser.content_length == head->content_length;
    case BodyKind::kNone:
    case BodyKind::kUntilClose:
      return !coded && !has_length;
  }
  return false;
}

int H1Decoder::State::OnBody(std::string_view piece) {
  piece_end = OffsetOf(piece.data()) + piece.size();
  char* data = slice_in_input + (piece.data() - slice.data());
  if (step->body.empty()) {
    step->body = std::span(data, piece.size());
    return HPE_OK;
  }
  char* end = step->body.data() + step->body.size();
  if (end != data) {
    std::memmove(end, data, piece.size());
  }
  step->body = std::span(step->body.data(), step->body.size() + piece.size());
  return HPE_OK;
}

int H1Decoder::State::OnChunkExtension(std::string_view piece) {
  if (chunk_size_digits == 0) {
    // The octet before is the semicolon.
    chunk_size_digits = static_cast<std::uint32_t>(OffsetOf(piece.data()) - 1 - section_start);
  }
  return HPE_OK;
}

int H1Decoder::State::OnChunkHeader() {
  return HPE_PAUSED;
}

int H1Decoder::State::OnChunkComplete() {
  // llhttp also ends the last chunk, after the trailers.
  if (phase == Phase::kChunkData) {
    phase = Phase::kChunkLine;
    section_start = piece_end + std::string_view("\r\n").size();
  }
  return HPE_OK;
}

int H1Decoder::State::OnMessageComplete() {
  phase = Phase::kDone;
  step->end = true;
  return HPE_PAUSED;
}

}  // namespace tidegate
