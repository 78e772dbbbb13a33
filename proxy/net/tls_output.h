#pragma once

// Records on their way to the stream below: buffers of the pool, held only while something is in
// them. More may be added while the stream below still writes what it was handed.

#include <array>
#include <cstddef>

#include <uv.h>

#include "common/buffer_pool.h"
#include "common/stream.h"

namespace tidegate {

class TlsOutput {
 public:
  explicit TlsOutput(BufferPool& pool) : pool_(pool) {}
  TlsOutput(const TlsOutput&) = delete;
  TlsOutput& operator=(const TlsOutput&) = delete;
  ~TlsOutput() { Release(); }

  using Buffers = std::array<uv_buf_t, Stream::kMaxBuffers>;

  // About so many octets come next: how large the next buffer is.
  void Expect(std::size_t size) { expected_ = size; }
  // False: there is no room for so much, and nothing was added. Room is for 288 KiB at least when
  // nothing is held.
  bool Append(const char* octets, std::size_t size);
  // What was appended and not handed over.
  std::size_t waiting() const { return waiting_; }
  // Hands over all that is waiting, as one write; returns how many of `out` it takes. It stays
  // where it is until Written.
  std::size_t HandOver(Buffers& out);
  // What was handed over is written: its memory goes back.
  void Written();
  // Everything goes back. Nobody may be writing from it any more.
  void Release();
  // Octets of the buffers that are held: what an idle connection must not have.
  std::size_t held_bytes() const;

 private:
  struct Segment {
    char* base;
    // Handed over up to here, filled up to there.
    std::size_t begin;
    std::size_t end;
    BufferSize size;
  };
  static constexpr std::size_t kMaxSegments = Stream::kMaxBuffers;

  std::size_t Room() const;
  void AddSegment();

  BufferPool& pool_;
  std::array<Segment, kMaxSegments> segments_;
  std::size_t count_ = 0;
  std::size_t waiting_ = 0;
  std::size_t expected_ = 0;
};

}  // namespace tidegate
