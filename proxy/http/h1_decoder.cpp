#include "proxy/http/h1_decoder.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <llhttp.h>

#include "common/check.h"
#include "common/units.h"
#include "proxy/http/h1_fault.h"
#include "proxy/http/h1_rules.h"

namespace tidegate {
namespace {

// Before a request line (RFC 9112 section 2.2).
constexpr int kMaxEmptyLines = 4;
// The longest method that is served has 11.
constexpr std::size_t kMaxMethodBytes = 32;
constexpr std::size_t kMaxChunkSizeDigits = 16;
// A chunk may cost this much and twice its size in framing; what it costs above that adds up over
// the body to at most kMaxChunkExcess. Small chunks are legitimate, long chunk extensions are not
// (the rule of Go's net/http).
constexpr std::uint64_t kChunkAllowance = 16;
constexpr std::uint64_t kMaxChunkExcess = 16 * 1024;

enum class Phase : std::uint8_t {
  kStart,       // before the first octet of a request
  kMethod,      // within the method: ours, not llhttp's
  kHead,        // start line and fields
  kBody,        // of known length
  kUntilClose,  // a body that ends with the connection
  kChunkLine,   // chunk size and extensions
  kChunkData,
  kTrailers,
  kDone,
  kFailed,
};

// A limit may be kUnlimited.
constexpr std::uint64_t Sum(std::uint64_t offset, std::uint64_t limit) {
  return limit > kUnlimited - offset ? kUnlimited : offset + limit;
}

std::string_view TrimEnd(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

struct H1Decoder::State {
  State(llhttp_type_t type_of_messages, const DecoderLimits& limits_of_messages)
      : limits(limits_of_messages), type(type_of_messages) {}

  void Begin(Head& new_head, Phase first_phase);
  Result<Step> Decode(std::span<char> input);
  Result<Step> Finish();

  // --- Steps of Decode; false: `fault` says why not ---
  bool ReadMethod(std::span<char> input, std::size_t& at);
  bool SkipEmptyLines(std::span<char> input, std::size_t& at);
  // Gives `size` octets to llhttp; `consumed` is less where it was stopped on purpose.
  bool Execute(const char* data, std::size_t size, std::size_t& consumed);
  bool EnterNextSection();
  bool EndChunkLine();
  // How far the message may reach before the current phase is over.
  std::uint64_t PhaseLimit() const;
  bool RefuseLength();
  bool Refuse(Fault new_fault);
  Error FaultAsError() const;

  // --- What llhttp calls; anything but 0 stops it ---
  int OnUrl(std::string_view piece);
  int OnUrlComplete();
  int OnVersion(std::string_view piece);
  int OnVersionComplete();
  int OnStatus(std::string_view piece);
  int OnFieldName(std::string_view piece);
  int OnFieldValue(std::string_view piece);
  int OnFieldComplete();
  int OnHeadersComplete();
  int OnBody(std::string_view piece);
  int OnChunkExtension(std::string_view piece);
  int OnChunkHeader();
  int OnChunkComplete();
  int OnMessageComplete();

  template <auto Member>
  static int OnSpan(llhttp_t* parser, const char* at, std::size_t size) {
    return (static_cast<State*>(parser->data)->*Member)(std::string_view(at, size));
  }
  template <auto Member>
  static int OnEvent(llhttp_t* parser) {
    return (static_cast<State*>(parser->data)->*Member)();
  }
  static const llhttp_settings_t kForRequests;
  static const llhttp_settings_t kForResponses;

  RequestHead& request() const { return static_cast<RequestHead&>(*head); }
  ResponseHead& response() const { return static_cast<ResponseHead&>(*head); }
  bool is_request() const { return type == HTTP_REQUEST; }
  // Of `at`, which llhttp names, within the message.
  std::uint64_t OffsetOf(const char* at) const {
    return offset + static_cast<std::uint64_t>(at - slice);
  }

  llhttp_t parser{};
  DecoderLimits limits;
  Head* head = nullptr;
  // Of the running Decode.
  Step* step = nullptr;
  // What llhttp is reading, and how many octets of this message came before.
  const char* slice = nullptr;
  std::uint64_t offset = 0;
  // Where the head, the chunk line or the trailer section began.
  std::uint64_t section_start = 0;
  // Where the request target, later the last piece of body, ended.
  std::uint64_t piece_end = 0;
  std::uint64_t chunk_excess = 0;
  // The field line that is being read, in the head's arena.
  std::string_view name;
  std::string_view value;
  std::optional<Fault> fault;
  std::uint32_t chunk_size_digits = 0;
  llhttp_type_t type;
  Phase phase = Phase::kDone;
  Method request_method = Method::kOther;
  // CR and LF before the request line.
  std::uint8_t empty_line_octets = 0;
  bool version_seen = false;
};

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

void H1Decoder::State::Begin(Head& new_head, Phase first_phase) {
  llhttp_init(&parser, type, is_request() ? &kForRequests : &kForResponses);
  parser.data = this;
  head = &new_head;
  offset = 0;
  section_start = 0;
  chunk_excess = 0;
  name = {};
  value = {};
  fault.reset();
  phase = first_phase;
  empty_line_octets = 0;
  version_seen = false;
}

Result<H1Decoder::Step> H1Decoder::State::Decode(std::span<char> input) {
  TG_CHECK(!input.empty() && phase != Phase::kDone);
  if (phase == Phase::kFailed) {
    return Fail(FaultAsError());
  }
  if (!is_request() && offset == 0 && (input[0] == '\r' || input[0] == '\n')) {
    // llhttp skips empty lines here too; RFC 9112 section 2.2 has them before requests only.
    Refuse({ErrorKind::kBadRequest, "empty line before the status line"});
    return Fail(FaultAsError());
  }
  Step found;
  step = &found;
  std::size_t at = 0;
  if (phase <= Phase::kMethod && !ReadMethod(input, at)) {
    return Fail(FaultAsError());
  }
  while (at < input.size() && phase != Phase::kDone) {
    const std::uint64_t room = PhaseLimit() - offset;
    if (room == 0) {
      RefuseLength();
      return Fail(FaultAsError());
    }
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(room, input.size() - at));
    std::size_t consumed = 0;
    if (!Execute(input.data() + at, size, consumed)) {
      return Fail(FaultAsError());
    }
    at += consumed;
  }
  found.consumed = at;
  return found;
}

// llhttp refuses a method that it does not know at its first odd octet. Reading the method here
// tells an unknown method (501) from no method at all (400), and bounds the empty lines, which
// llhttp skips for ever.
bool H1Decoder::State::ReadMethod(std::span<char> input, std::size_t& at) {
  if (phase == Phase::kStart && !SkipEmptyLines(input, at)) {
    return false;
  }
  if (at == input.size()) {
    return true;
  }
  phase = Phase::kMethod;
  std::string_view& kept = request().method_name;
  const std::string_view rest(input.data() + at, input.size() - at);
  const std::string_view piece = rest.substr(0, std::min(rest.find(' '), kMaxMethodBytes));
  if (!piece.empty() && !IsToken(piece)) {
    return Refuse({ErrorKind::kBadRequest, "request line does not begin with a method"});
  }
  if (kept.size() + piece.size() >= kMaxMethodBytes) {
    return Refuse({ErrorKind::kMethodNotImplemented, "unknown method"});
  }
  if (piece.size() == rest.size()) {
    kept = head->arena.Extend(kept, piece);
    at = input.size();
    return true;
  }
  const bool in_one_piece = kept.empty();
  if (in_one_piece && piece.empty()) {
    return Refuse({ErrorKind::kBadRequest, "request line does not begin with a method"});
  }
  const std::string_view method = in_one_piece ? piece : head->arena.Extend(kept, piece);
  if (auto refused = JudgeMethod(method, request())) {
    return Refuse(*refused);
  }
  phase = Phase::kHead;
  if (in_one_piece) {
    return true;
  }
  // The octets of the earlier pieces are gone from the input.
  at += piece.size();
  std::size_t consumed = 0;
  return Execute(request().method_name.data(), request().method_name.size(), consumed);
}

bool H1Decoder::State::SkipEmptyLines(std::span<char> input, std::size_t& at) {
  for (; at < input.size(); ++at, ++empty_line_octets) {
    const bool after_return = empty_line_octets % 2 == 1;
    if (!after_return && input[at] != '\r' && input[at] != '\n') {
      return true;
    }
    if (input[at] != (after_return ? '\n' : '\r')) {
      return Refuse({ErrorKind::kBadRequest, "carriage return and line feed apart"});
    }
    if (empty_line_octets == 2 * kMaxEmptyLines) {
      return Refuse({ErrorKind::kBadRequest, "too many empty lines before the request line"});
    }
  }
  return true;
}

bool H1Decoder::State::Execute(const char* data, std::size_t size, std::size_t& consumed) {
  slice = data;
  const llhttp_errno_t error = llhttp_execute(&parser, data, size);
  if (fault) {
    phase = Phase::kFailed;
    return false;
  }
  consumed = size;
  if (error == HPE_PAUSED || error == HPE_PAUSED_UPGRADE) {
    consumed = static_cast<std::size_t>(llhttp_get_error_pos(&parser) - data);
  } else if (error != HPE_OK) {
    const char* stopped_at = llhttp_get_error_pos(&parser);
    const bool is_octet = stopped_at >= data && stopped_at < data + size;
    return Refuse(FaultOf(error, llhttp_get_error_reason(&parser), is_octet ? *stopped_at : '\0'));
  }
  offset += consumed;
  if (phase == Phase::kDone) {
    return true;
  }
  if (offset > PhaseLimit()) {
    // The phase began within the slice.
    return RefuseLength();
  }
  return error == HPE_OK || EnterNextSection();
}

// llhttp was stopped where a chunk line or the trailer section begins: only here is its place in
// the input known.
bool H1Decoder::State::EnterNextSection() {
  llhttp_resume(&parser);
  if (phase == Phase::kHead) {
    phase = Phase::kChunkLine;
  } else if (!EndChunkLine()) {
    return false;
  }
  section_start = offset;
  return true;
}

bool H1Decoder::State::EndChunkLine() {
  constexpr std::uint64_t kLineEnd = 2;
  const std::uint64_t line = offset - section_start;
  const std::uint64_t digits = chunk_size_digits != 0 ? chunk_size_digits : line - kLineEnd;
  if (digits > kMaxChunkSizeDigits) {
    return Refuse({ErrorKind::kBadRequest, "chunk size has more than 16 digits"});
  }
  chunk_size_digits = 0;
  const std::uint64_t size = parser.content_length;
  const std::uint64_t allowed = kChunkAllowance + 2 * std::min(size, kMaxChunkExcess);
  chunk_excess += line;
  chunk_excess -= std::min(chunk_excess, allowed);
  phase = size == 0 ? Phase::kTrailers : Phase::kChunkData;
  return true;
}

std::uint64_t H1Decoder::State::PhaseLimit() const {
  switch (phase) {
    case Phase::kHead: {
      // llhttp stops at the first octet that the target may not have: OnUrl then sees its length
      // whatever follows.
      const std::uint64_t target_end =
          is_request() ? Sum(request().method_name.size() + 2, limits.max_url_bytes) : 0;
      return offset < target_end ? std::min(limits.max_head_bytes, target_end)
                                 : limits.max_head_bytes;
    }
    case Phase::kTrailers:
      return Sum(section_start, limits.max_head_bytes);
    case Phase::kChunkLine:
      return section_start + kMaxChunkExcess + kChunkAllowance - chunk_excess;
    default:
      return kUnlimited;
  }
}

bool H1Decoder::State::RefuseLength() {
  if (phase == Phase::kChunkLine) {
    return Refuse({ErrorKind::kBadRequest, "chunk extensions are too long"});
  }
  if (phase == Phase::kTrailers) {
    return Refuse({ErrorKind::kHeadTooLarge, "trailers are too large"});
  }
  return Refuse({ErrorKind::kHeadTooLarge, "head is too large"});
}

bool H1Decoder::State::Refuse(Fault new_fault) {
  phase = Phase::kFailed;
  if (!is_request()) {
    new_fault.kind =
        new_fault.kind == ErrorKind::kHeadTooLarge || new_fault.kind == ErrorKind::kTooManyFields
            ? ErrorKind::kUpstreamHeadTooLarge
            : ErrorKind::kUpstreamBadResponse;
  }
  fault = new_fault;
  return false;
}

Error H1Decoder::State::FaultAsError() const {
  return Error(fault->kind, std::string(fault->detail));
}

int H1Decoder::State::OnUrl(std::string_view piece) {
  const std::uint64_t start = request().method_name.size() + 1;
  if (request().target.empty() && OffsetOf(piece.data()) != start) {
    Refuse({ErrorKind::kBadRequest, "more than one space after the method"});
    return HPE_USER;
  }
  request().target = head->arena.Extend(request().target, piece);
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
  return HPE_OK;
}

int H1Decoder::State::OnVersion(std::string_view piece) {
  constexpr std::uint64_t kBetween = std::string_view(" HTTP/").size();
  if (!version_seen && OffsetOf(piece.data()) != piece_end + kBetween) {
    Refuse({ErrorKind::kBadRequest, "more than one space before the version"});
    return HPE_USER;
  }
  version_seen = true;
  return HPE_OK;
}

int H1Decoder::State::OnVersionComplete() {
  if (parser.http_major != 1 || parser.http_minor > 1) {
    Refuse({ErrorKind::kVersionNotSupported, "HTTP version other than 1.0 and 1.1"});
    return HPE_USER;
  }
  head->minor_version = parser.http_minor;
  return HPE_OK;
}

int H1Decoder::State::OnStatus(std::string_view piece) {
  response().reason = head->arena.Extend(response().reason, piece);
  return HPE_OK;
}

int H1Decoder::State::OnFieldName(std::string_view piece) {
  name = head->arena.Extend(name, piece);
  return HPE_OK;
}

int H1Decoder::State::OnFieldValue(std::string_view piece) {
  value = head->arena.Extend(value, piece);
  return HPE_OK;
}

int H1Decoder::State::OnFieldComplete() {
  if (is_request() && !version_seen) {
    Refuse({ErrorKind::kBadRequest, "request line without a version"});
    return HPE_USER;
  }
  const Field field{name, TrimEnd(value), FieldIdOf(name)};
  name = {};
  value = {};
  const bool in_trailers = phase == Phase::kTrailers;
  Fields& fields = in_trailers ? head->trailers : head->fields;
  if (fields.size() == limits.max_fields) {
    Refuse({ErrorKind::kTooManyFields, "too many fields"});
    return HPE_USER;
  }
  if ((in_trailers && IsForbiddenInTrailers(field.id)) ||
      (is_request() && field.id == FieldId::kOther && PassesForKnownField(field.name))) {
    return HPE_OK;
  }
  fields.Add(field);
  return HPE_OK;
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
  step->head = true;
  if (!is_request() && HasNoBody(response().status, request_method)) {
    return kSkipBody;
  }
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

int H1Decoder::State::OnBody(std::string_view piece) {
  piece_end = OffsetOf(piece.data()) + piece.size();
  // The octets are those that Decode was given to write to.
  char* data = const_cast<char*>(piece.data());
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

Result<H1Decoder::Step> H1Decoder::State::Finish() {
  if (phase == Phase::kUntilClose) {
    phase = Phase::kDone;
    Step found;
    found.end = true;
    return found;
  }
  if (phase == Phase::kFailed) {
    return Fail(FaultAsError());
  }
  if (is_request()) {
    return Fail(ErrorKind::kClientClosed, "client closed the connection within a request");
  }
  if (offset == 0) {
    return Fail(ErrorKind::kUpstreamClosed, "connection closed before a response");
  }
  return Fail(ErrorKind::kUpstreamTruncated, "connection closed within a response");
}

H1Decoder::H1Decoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
H1Decoder::H1Decoder(H1Decoder&&) noexcept = default;
H1Decoder& H1Decoder::operator=(H1Decoder&&) noexcept = default;
H1Decoder::~H1Decoder() = default;

H1Decoder H1Decoder::ForRequests(const DecoderLimits& limits) {
  return H1Decoder(std::make_unique<State>(HTTP_REQUEST, limits));
}

H1Decoder H1Decoder::ForResponses(const DecoderLimits& limits) {
  return H1Decoder(std::make_unique<State>(HTTP_RESPONSE, limits));
}

void H1Decoder::SetLimits(const DecoderLimits& limits) {
  state_->limits = limits;
}

void H1Decoder::BeginRequest(RequestHead& head) {
  TG_CHECK(state_->is_request());
  head.Clear();
  state_->Begin(head, Phase::kStart);
}

void H1Decoder::BeginResponse(ResponseHead& head, Method request_method) {
  TG_CHECK(!state_->is_request());
  head.Clear();
  state_->request_method = request_method;
  state_->Begin(head, Phase::kHead);
}

Result<H1Decoder::Step> H1Decoder::Decode(std::span<char> input) {
  return state_->Decode(input);
}

Result<H1Decoder::Step> H1Decoder::Finish() {
  return state_->Finish();
}

bool H1Decoder::started() const {
  return state_->offset > 0 || (state_->phase == Phase::kMethod);
}

}  // namespace tidegate
