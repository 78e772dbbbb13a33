#pragma once

// What nghttp2 tells an H2Connection, as functions that nghttp2 can call. They move octets and post
// whoever waits; none of them calls nghttp2 to read or to send.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <span>

#include "proxy/http/h2_connection.h"

namespace tidegate {

class H2Callbacks {
 public:
  // A session of nghttp2 that tells `connection`, which outlives it. `max_continuations` of one
  // block are more than the connection allows.
  static nghttp2_session* MakeSession(H2Connection& connection, std::uint32_t max_continuations);
  // nghttp2 ends the connection of a client that opens one stream too many. RFC 9113 section 5.1.2
  // has an error of that stream for it, so nghttp2 is given a limit that nobody reaches, and the
  // client is told ours: it takes that one's place in `settings`, the first frame of the session.
  static constexpr nghttp2_settings_entry kNoLimitOfStreams = {
      NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0x7fffffff};
  static void AnnounceLimit(std::span<char> settings);
  // Where a body comes from.
  static nghttp2_data_provider DataProvider();

 private:
  static const nghttp2_session_callbacks* Table();
  static H2ServerStream* StreamOf(nghttp2_session* session, std::int32_t id);

  static int OnBeginFrame(nghttp2_session* session, const nghttp2_frame_hd* header, void* self);
  static int OnBeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame,
                      const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                      std::size_t value_size, std::uint8_t flags, void* self);
  static int UnpackNothing(nghttp2_session* session, void** payload, const nghttp2_frame_hd* header,
                           void* self);
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnData(nghttp2_session* session, std::uint8_t flags, std::int32_t id,
                    const std::uint8_t* data, std::size_t size, void* self);
  static int OnStreamClose(nghttp2_session* session, std::int32_t id, std::uint32_t code,
                           void* self);
  static int OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnFrameNotSent(nghttp2_session* session, const nghttp2_frame* frame, int error,
                            void* self);
  static ssize_t ReadData(nghttp2_session* session, std::int32_t id, std::uint8_t* buffer,
                          std::size_t most, std::uint32_t* flags, nghttp2_data_source* source,
                          void* self);
  static int SendData(nghttp2_session* session, nghttp2_frame* frame, const std::uint8_t* header,
                      std::size_t size, nghttp2_data_source* source, void* self);

  static void JudgeStreamOf(H2Connection& self, const nghttp2_frame_hd& header);
  static void HeadersCame(H2Connection& self, const nghttp2_frame& frame);
  static void EndCame(H2Connection& self, nghttp2_session* session, std::int32_t id);
  // The request is malformed by what came after its head.
  static void Malformed(H2Connection& self, H2ServerStream& stream, const Error& why);
};

}  // namespace tidegate
