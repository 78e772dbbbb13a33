#pragma once

// HTTP/1 in: octets to heads, body and end, by llhttp without any lenient flag and by our own rules
// for what llhttp lets through (RFC 9112). One decoder reads one direction of one connection,
// message after message.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "common/result.h"
#include "proxy/http/message.h"

namespace tidegate {

struct DecoderLimits {
  std::size_t max_head_bytes = 32 * 1024;  // start line and fields; also each trailer section
  std::size_t max_fields = 100;            // also of each trailer section
  std::size_t max_url_bytes = 16 * 1024;   // requests only
};

class H1Decoder {
 public:
  // What one call found. `head`, then `body`, then `end`, in this order, may all come in one step.
  struct Step {
    // Octets of the input that are done with, body included. What is left belongs to the next
    // message (after `end`) or to the tunnel; otherwise everything is consumed.
    std::size_t consumed = 0;
    // The head is complete, in the object given to Begin. True once a message.
    bool head = false;
    // Body octets, contiguous, inside the input (which is compacted in place when chunk framing
    // stood between them).
    std::span<char> body;
    // The message is complete; trailers are in the head. Begin comes next. After a request or
    // response that asks for another protocol, nothing of what follows was looked at.
    bool end = false;
  };

  // For requests / for responses.
  static H1Decoder ForRequests(const DecoderLimits& limits);
  static H1Decoder ForResponses(const DecoderLimits& limits);
  H1Decoder(H1Decoder&&) noexcept;
  H1Decoder& operator=(H1Decoder&&) noexcept;
  ~H1Decoder();

  // Between messages: what holds from the next one on (a reload may have changed it).
  void SetLimits(const DecoderLimits& limits);

  // Empty lines before a request line (RFC 9112 section 2.2); one more is a bad request.
  static constexpr unsigned kMaxEmptyLines = 4;
  // Starts a message. `head` is cleared, is filled by Decode, and must outlive the message.
  // `empty_lines` have come already and were not given to Decode; at most kMaxEmptyLines.
  void BeginRequest(RequestHead& head, unsigned empty_lines = 0);
  // `request_method` decides whether a body follows (HEAD, RFC 9112 section 6.3).
  void BeginResponse(ResponseHead& head, Method request_method);

  // Reads on. Errors are final for the connection: kBadRequest, kBadHost, kBadTarget, kUrlTooLong,
  // kHeadTooLarge, kTooManyFields, kBadTransferCoding, kMethodNotImplemented, kVersionNotSupported
  // for requests; kUpstreamBadResponse, kUpstreamHeadTooLarge for responses. The detail says what
  // was wrong, for the log, in one line without control octets. `input` is not empty. Empty lines
  // before a request line are skipped (RFC 9112 section 2.2), bounded.
  Result<Step> Decode(std::span<char> input);

  // The peer has ended its side. Step::end if that is the end of a body that ends with the
  // connection; an error otherwise: kClientClosed or kUpstreamTruncated (kUpstreamClosed if nothing
  // of the message has come).
  Result<Step> Finish();

  // Some octet of the current message has been seen; empty lines before a request line are none of
  // it.
  bool started() const;

 private:
  struct State;
  explicit H1Decoder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tidegate
