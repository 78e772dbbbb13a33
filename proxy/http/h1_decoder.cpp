#include "proxy/http/h1_decoder.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/units.h"
#include "proxy/http/h1_decoder_state.h"
#include "proxy/http/h1_rules.h"

namespace tidegate {
namespace {

// The longest method that is served has 11.
constexpr std::size_t kMaxMethodBytes = 32;
constexpr std::size_t kMaxChunkSizeDigits = 16;
// A chunk may cost this much and twice its size in framing; what it costs above that adds up over
// the body to at most kMaxChunkExcess. Small chunks are legitimate, long chunk extensions are not
// (the rule of Go's net/http).
constexpr std::uint64_t kChunkAllowance = 16;
constexpr std::uint64_t kMaxChunkExcess = 16 * 1024;
// How much of the input is copied at once where a head or trailers are read: most heads are
// shorter, and of a body that follows at most this much is copied for nothing.
constexpr std::size_t kMaxHeadSlice = 1024;

// A limit may be kUnlimited.
constexpr std::uint64_t Sum(std::uint64_t offset, std::uint64_t limit) {
  return limit > kUnlimited - offset ? kUnlimited : offset + limit;
}

}  // namespace

// At the start of a message: a copy is cheaper than to initialise each anew.
const llhttp_t H1Decoder::State::kRequestParser = [] {
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &kForRequests);
  return parser;
}();
const llhttp_t H1Decoder::State::kResponseParser = [] {
  llhttp_t parser;
  llhttp_init(&parser, HTTP_RESPONSE, &kForResponses);
  // The one leniency: JudgeResponse decides it, and the connection ends with that answer.
  llhttp_set_lenient_chunked_length(&parser, 1);
  return parser;
}();

void H1Decoder::State::Begin(Head& new_head, Phase first_phase) {
  parser = is_request() ? kRequestParser : kResponseParser;
  parser.data = this;
  head = &new_head;
  offset = 0;
  section_start = 0;
  chunk_excess = 0;
  chunk_size_digits = 0;
  name = {};
  value = {};
  fault.reset();
  phase = first_phase;
  empty_line_octets = 0;
  status_line = is_request() ? StatusLine::kEnded : StatusLine::kOpen;
  version_seen = false;
  target_complete = false;
  protocol_octet = '\0';
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
    const bool copies = phase == Phase::kHead || phase == Phase::kTrailers;
    const std::size_t most = copies ? kMaxHeadSlice : input.size();
    const auto allowed =
        static_cast<std::size_t>(std::min<std::uint64_t>({room, input.size() - at, most}));
    const std::size_t size = UpToStrayReturn(input.subspan(at, allowed));
    if (size == 0) {
      Refuse({ErrorKind::kBadRequest, "carriage return without line feed"});
      return Fail(FaultAsError());
    }
    if (HasSpaceBeforeTarget(input.subspan(at, size))) {
      Refuse({ErrorKind::kBadRequest, "more than one space after the method"});
      return Fail(FaultAsError());
    }
    std::string_view octets(input.data() + at, size);
    if (copies) {
      octets = head->arena.Copy(octets);
    }
    std::size_t consumed = 0;
    if (!Execute(octets, input.data() + at, consumed)) {
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
  constexpr std::string_view kUsual = "GET ";
  const bool at_line_start = phase == Phase::kStart && empty_line_octets % 2 == 0;
  if (at_line_start && std::string_view(input.data(), input.size()).starts_with(kUsual)) {
    request().method = Method::kGet;
    request().method_name = kUsual.substr(0, 3);
    phase = Phase::kHead;
    return true;
  }
  if (phase == Phase::kStart && !SkipEmptyLines(input, at)) {
    return false;
  }
  if (at == input.size()) {
    return true;
  }
  phase = Phase::kMethod;
  std::string_view& kept = request().method_name;
  const std::string_view rest(input.data() + at, input.size() - at);
  const std::string_view piece =
      rest.substr(0, std::min(rest.find(' '), kMaxMethodBytes - kept.size()));
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
  return Execute(request().method_name, nullptr, consumed);
}

// llhttp skips any number of spaces. Not seen in OnUrl: what it is called for depends on what comes
// later in the slice.
bool H1Decoder::State::HasSpaceBeforeTarget(std::span<const char> octets) const {
  if (phase != Phase::kHead || !is_request()) {
    return false;
  }
  const std::uint64_t target_start = request().method_name.size() + 1;
  return offset <= target_start && target_start - offset < octets.size() &&
         octets[target_start - offset] == ' ';
}

// llhttp takes a second carriage return for the line feed that ends a status line. How many of
// `octets` come before one.
std::size_t H1Decoder::State::UpToStrayReturn(std::span<const char> octets) {
  if (status_line == StatusLine::kEnded) {
    return octets.size();
  }
  std::size_t next = 0;
  if (status_line == StatusLine::kOpen) {
    const std::size_t end = std::string_view(octets.data(), octets.size()).find('\r');
    if (end == std::string_view::npos) {
      return octets.size();
    }
    status_line = StatusLine::kReturned;
    next = end + 1;
  }
  if (next == octets.size()) {
    return next;
  }
  if (octets[next] != '\n') {
    return next;
  }
  status_line = StatusLine::kEnded;
  return octets.size();
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

bool H1Decoder::State::Execute(std::string_view octets, char* body_data, std::size_t& consumed) {
  const char* data = octets.data();
  const std::size_t size = octets.size();
  slice = octets;
  slice_in_input = body_data;
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
  if (target_complete && !version_seen && piece_end + 1 >= offset &&
      piece_end + 1 < offset + consumed) {
    protocol_octet = data[piece_end + 1 - offset];
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

void H1Decoder::BeginRequest(RequestHead& head, unsigned empty_lines) {
  TG_CHECK(state_->is_request());
  head.Clear();
  state_->Begin(head, State::Phase::kStart);
  state_->empty_line_octets = static_cast<std::uint8_t>(2 * empty_lines);
}

void H1Decoder::BeginResponse(ResponseHead& head, Method request_method) {
  TG_CHECK(!state_->is_request());
  head.Clear();
  state_->request_method = request_method;
  state_->Begin(head, State::Phase::kHead);
}

Result<H1Decoder::Step> H1Decoder::Decode(std::span<char> input) {
  return state_->Decode(input);
}

Result<H1Decoder::Step> H1Decoder::Finish() {
  return state_->Finish();
}

bool H1Decoder::started() const {
  return state_->offset > 0 || state_->phase == State::Phase::kMethod ||
         state_->phase == State::Phase::kFailed;
}

}  // namespace tidegate
