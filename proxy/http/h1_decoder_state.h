#pragma once

// What a decoder remembers. h1_decoder.cpp gives octets to llhttp and keeps the limits;
// h1_decoder_events.cpp takes what llhttp finds. Nobody else includes this.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <llhttp.h>

#include "common/slabs.h"
#include "proxy/http/h1_decoder.h"
#include "proxy/http/h1_fault.h"

namespace tidegate {

struct H1Decoder::State : InSlab {
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

  // Of a response.
  enum class StatusLine : std::uint8_t { kOpen, kReturned, kEnded };

  State(llhttp_type_t type_of_messages, const DecoderLimits& limits_of_messages)
      : limits(limits_of_messages), type(type_of_messages) {}

  void Begin(Head& new_head, Phase first_phase);
  Result<Step> Decode(std::span<char> input);
  Result<Step> Finish();

  // --- Steps of Decode; false: `fault` says why not ---
  bool ReadMethod(std::span<char> input, std::size_t& at);
  bool SkipEmptyLines(std::span<char> input, std::size_t& at);
  std::size_t UpToStrayReturn(std::span<const char> octets);
  bool HasSpaceBeforeTarget(std::span<const char> octets) const;
  // Gives octets to llhttp; `consumed` is less where it was stopped on purpose. Fields, target and
  // reason phrase become views into them, body a view into the same octets at `body_data`.
  bool Execute(std::string_view octets, char* body_data, std::size_t& consumed);
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

  bool LlhttpAgrees() const;
  int OnOtherField(FieldId id);
  int AddField(Fields& fields, FieldId id);
  int RefuseField();
  int RefuseVersion();
  // `text`, in the arena like `piece`, with `piece` after it.
  void Join(std::string_view& text, std::string_view piece);
  void Extend(std::string_view& text, std::string_view piece);
  bool IsLine(std::string_view field_name, std::string_view field_value) const;

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
  static const llhttp_t kRequestParser;
  static const llhttp_t kResponseParser;

  RequestHead& request() const { return static_cast<RequestHead&>(*head); }
  ResponseHead& response() const { return static_cast<ResponseHead&>(*head); }
  bool is_request() const { return type == HTTP_REQUEST; }
  // Of `at`, which llhttp names, within the message.
  std::uint64_t OffsetOf(const char* at) const {
    return offset + static_cast<std::uint64_t>(at - slice.data());
  }

  llhttp_t parser{};
  DecoderLimits limits;
  Head* head = nullptr;
  // Of the running Decode.
  Step* step = nullptr;
  // What llhttp is reading, the same octets in the input, and how many of this message came before.
  std::string_view slice;
  char* slice_in_input = nullptr;
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
  StatusLine status_line = StatusLine::kEnded;
  Method request_method = Method::kOther;
  // CR and LF before the request line.
  std::uint8_t empty_line_octets = 0;
  bool version_seen = false;
  bool target_complete = false;
  // First octet of the protocol's name, where the slice ended between it and the version.
  char protocol_octet = '\0';
};

}  // namespace tidegate
