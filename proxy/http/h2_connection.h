#pragma once

// A downstream connection that speaks HTTP/2: the adapter of nghttp2, in the server's role. The
// callbacks of nghttp2 (h2_callbacks.cpp) move octets between it and the streams and post whoever
// waits; what a request may say is the rules' business (h2_rules.h), not nghttp2's.
//
//   1. A stream's window opens again when the exchange has read. The connection's opens when octets
//   come, so that a stream which nobody reads holds up no other, until the connection holds
//   kMostHeld unread, or more than its share while all of a worker hold more than kMostHeldByAll:
//   from there on when they are read. The share is an equal part of kShared, but at least a window.
//   So clients can make a worker keep kMostHeldByAll, kShared and kMostWidened, and two windows of
//   each connection.
//   2. Frames are gathered and written once a turn. While the stream below is behind nothing more
//   is taken from anybody; octets of bodies are copied once, into what is written.
//   3. A body that did not end well is never ended by END_STREAM: RST_STREAM.
//   4. A client that wastes our work is told ENHANCE_YOUR_CALM and left (h2_budget.h); whatever
//   ends the connection against its will has one error, end_error().
//   5. What waits to be written for a client that does not read is bounded: it is not read either.

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/buffer_pool.h"
#include "common/loop.h"
#include "common/stream.h"
#include "proxy/http/h2_budget.h"
#include "proxy/http/h2_rules.h"
#include "proxy/http/h2_stream.h"
#include "proxy/net/posted_callback.h"

namespace tidegate {

// Who serves the streams. Called by the loop, never from within a call of the owner.
class [[gnu::visibility("hidden")]] H2Handler {
 public:
  // Where the head of the request that begins goes, until OnRequest has taken it; null: there are
  // too many, it is refused and the client may ask again (REFUSED_STREAM).
  virtual RequestHead* NextHead() = 0;
  virtual const DecoderLimits& HeadLimits() = 0;
  // The head is complete. `refused`: why it must not be served; what is left to do is to say so,
  // if the stream still can.
  virtual void OnRequest(std::unique_ptr<H2ServerStream> stream, std::optional<Error> refused) = 0;
  // A frame of RST_STREAM came.
  virtual void OnClientReset() = 0;
  // Something may have changed: writing(), open_head(), pinged(), finished().
  virtual void OnChange() = 0;

 protected:
  ~H2Handler() = default;
};

class H2Connection final : private StreamOwner {
 public:
  // As many requests as a client may have at a time.
  static constexpr std::uint32_t kMaxStreams = 128;
  // What a stream may hold unread, and what a large upload may, of which there are so many.
  static constexpr std::int32_t kStreamWindow = 65'535;
  static constexpr std::int32_t kWideWindow = 512 * 1024;
  static constexpr int kMaxWide = 8;
  // What may come on a connection before we have said that there may be more; and when there is a
  // large upload.
  static constexpr std::int32_t kConnectionWindow = 256 * 1024;
  static constexpr std::int32_t kWideConnectionWindow = 1024 * 1024;
  static constexpr std::size_t kWider = kWideConnectionWindow - kConnectionWindow;
  // All that is unread; a thread has one worker.
  static constexpr std::size_t kMostHeld =
      std::size_t{kStreamWindow} * kMaxStreams + std::size_t{kMaxWide} * kWideWindow;
  static constexpr std::size_t kMostHeldByAll = 64 * 1024 * 1024;
  static constexpr std::size_t kShared = kMostHeldByAll / 4;
  // By which windows of connections are wider than kConnectionWindow.
  static constexpr std::size_t kMostWidened = kMostHeldByAll / 2;
  // Of ours: a payload of 16 KiB and its header.
  static constexpr std::size_t kMaxFrame = 16 * 1024 + 9;

  // `handler` outlives this. `limits` are told to the client.
  H2Connection(Loop& loop, BufferPool& pool, std::unique_ptr<Stream> stream,
               const DecoderLimits& limits, H2Handler& handler);
  ~H2Connection();

  // Says our settings; what has come already is read at the next drain of the ready queue.
  void Start();

  // RFC 9113 section 6.8: new streams are unwanted, those on their way are served. A PING goes
  // after it, whose answer (pinged()) says that the client has heard it.
  void AnnounceEnd();
  // New streams are refused from now on; those that are there go on.
  void RefuseNew();
  // Ends with a GOAWAY of this code after what is in the making; the streams are gone.
  void End(std::uint32_t code, Error why);
  // Ends now, without a word.
  void Close(Error why, bool reset);
  // The client has done that; if it is too much, the connection ends soon.
  void SpendOn(H2Abuse abuse, std::uint32_t count = 1);
  // After finished(): our side is ended and the client's octets are thrown away.
  void BeginLinger();

  // The client has said that it speaks HTTP/2: its preface and its SETTINGS came.
  bool greeted() const { return greeted_; }
  // A head has begun and is not complete; another number for each, 0: none.
  std::uint64_t open_head() const { return opening_ != nullptr || trailers_of_ != 0 ? heads_ : 0; }
  // The stream below has not taken what was written.
  bool writing() const { return write_pending_; }
  // Octets that it has not taken; and those that it has, in all.
  std::size_t unwritten() const { return write_pending_ ? stream_->unwritten() : 0; }
  std::uint64_t octets_written() const { return octets_out_ - unwritten(); }
  bool pinged() const { return pinged_; }
  // Nothing more is to be done here but to linger: both sides have said all, or one has failed.
  bool finished() const;
  // The client is not there any more: there is nobody to linger for.
  bool client_left() const { return stream_->read_state() != Stream::ReadState::kOpen || closed_; }
  // Why the connection was ended, if the client is to blame.
  const std::optional<Error>& end_error() const { return end_error_; }
  std::size_t stream_count() const { return stream_count_; }
  std::uint64_t octets_in() const { return octets_in_; }
  std::uint64_t octets_out() const { return octets_out_; }

 private:
  friend class H2ServerStream;
  friend class H2Callbacks;

  // --- For the streams.
  void Add(H2ServerStream& stream);
  void Remove(H2ServerStream& stream);
  void Reset(H2ServerStream& stream, const Error& why);
  // What comes is paid for at once.
  bool MayHoldMore() const;
  // Octets are kept for the stream; and they are not any more.
  void Hold(std::size_t octets);
  // The client may send so much more.
  void Pay(std::size_t octets);
  void Credit(H2ServerStream& stream, std::size_t octets);
  void SubmitHead(H2ServerStream& stream, ResponseHead& head, int status, bool data_follows);
  void SubmitInterim(H2ServerStream& stream, const ResponseHead& head);
  void Widen(H2ServerStream& stream);
  void Narrow();
  void PairUp(std::uint8_t flags);
  bool SubmitTrailers(H2ServerStream& stream, const Fields& trailers);
  void ResumeData(H2ServerStream& stream);
  void WantWrite() { flush_.Post(); }
  // It waits for the client to open a window.
  bool WindowShut(const H2ServerStream& stream) const;

  void OnReadable() override;
  void OnWritten() override;
  void Receive();
  // What nghttp2 drops without a word: DATA on streams that it has forgotten.
  void Walk(std::span<const char> octets);
  void JudgeForgotten(std::uint8_t type, std::size_t size, std::int32_t id, bool ends);
  void Flush();
  // Fills out_; false: there was no room for all.
  bool Collect();
  void Put(std::span<const char> octets);
  std::size_t room() const { return BytesOf(out_size_class_) - out_size_; }
  void ReleaseOut();
  void Blame(ErrorKind kind, std::string_view detail);
  void BreakIfBlamed();
  Error ErrorOfEnd() const;
  // After a fatal error nghttp2 is not asked any more: we say GOAWAY ourselves.
  void Break(std::uint32_t code, Error why);
  void EndStreams(const Error& why);
  void Lost();

  Loop& loop_;
  BufferPool& pool_;
  std::unique_ptr<Stream> stream_;
  H2Handler& handler_;
  nghttp2_session* session_ = nullptr;
  PostedCallback flush_;
  PostedCallback receive_;
  H2Budget budget_;

  // The request whose head is being read, or the stream whose trailers are (0: none).
  H2HeadReader reader_;
  std::unique_ptr<H2ServerStream> opening_;
  std::int32_t trailers_of_ = 0;
  // Of the block that is being read: its octets as a list, and its CONTINUATION frames.
  std::size_t block_octets_ = 0;
  std::uint32_t continuations_ = 0;
  std::uint64_t heads_ = 0;
  std::size_t max_block_octets_;
  std::uint32_t max_continuations_;

  // How much of the frame that Walk is in is to come, and the header of the next as far as it is
  // there. The preface comes first.
  static constexpr std::size_t kPrefaceOctets = 24;
  std::size_t walk_skip_ = kPrefaceOctets;
  std::array<char, 9> walk_header_{};
  std::size_t walk_header_size_ = 0;

  // What is being written.
  char* out_ = nullptr;
  std::size_t out_size_ = 0;
  BufferSize out_size_class_ = BufferSize::kMedium;
  bool out_full_ = false;
  // The next one is to be a large one.
  bool bulk_ = false;
  // Said after what is in the making, when nghttp2 is broken.
  std::string farewell_;
  std::vector<H2Field> fields_;
  std::vector<nghttp2_nv> pairs_;

  // The last streams of some kind.
  template <std::size_t kSize>
  struct Ring {
    std::array<std::int32_t, kSize> ids{};
    std::size_t at = 0;
    void Add(std::int32_t id) { ids[at++ % kSize] = id; }
    bool Has(std::int32_t id) const { return std::ranges::find(ids, id) != ids.end(); }
  };
  // nghttp2 forgets a stream that is closed, and ignores what still comes for it. Of one that the
  // client has ended that is a fault; of one that we have reset it is what was on its way (RFC 9113
  // section 5.1).
  Ring<32> ended_;
  Ring<128> reset_;
  std::int32_t last_opened_ = 0;
  // What our last GOAWAY says, also while it waits to be written: a client repeats elsewhere what
  // has come after it.
  std::int32_t last_served_ = 0x7fffffff;
  // By RFC 9113 section 5.1.2: what nghttp2 knows, be it served or not.
  std::uint32_t open_streams_ = 0;

  H2ServerStream* first_ = nullptr;
  std::size_t stream_count_ = 0;
  int wide_count_ = 0;
  // How far the window of the connection is wider than kConnectionWindow; while it is to be narrow,
  // what the client has used of that is not given back.
  std::size_t widened_ = 0;
  // Unread, of all streams; and what of it the client was not given back for the connection.
  std::size_t held_ = 0;
  std::size_t owed_ = 0;
  std::optional<Error> end_error_;
  std::uint64_t octets_in_ = 0;
  std::uint64_t octets_out_ = 0;
  // What a fatal protocol error of the client's is called.
  std::uint32_t broken_code_ = NGHTTP2_PROTOCOL_ERROR;
  bool narrow_ = true;
  bool was_wide_ = false;
  // end_error_ is ours to act upon.
  bool blamed_ = false;
  bool greeted_ = false;
  // Our SETTINGS were said.
  bool announced_ = false;
  bool pinged_ = false;
  bool write_pending_ = false;
  // Input is not read on before something was written.
  bool held_back_ = false;
  // nghttp2 is not asked any more.
  bool broken_ = false;
  bool lingering_ = false;
  bool closed_ = false;
};

}  // namespace tidegate
