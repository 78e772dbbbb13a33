#include "proxy/net/tls_output.h"

#include <algorithm>
#include <cstring>

namespace tidegate {

// The last buffer that one write may have takes all the rest.
void TlsOutput::AddSegment() {
  BufferSize size = BufferSize::kSmall;
  if (count_ + 1 == kMaxSegments) {
    size = BufferSize::kLarge;
  } else if (expected_ > BytesOf(BufferSize::kSmall)) {
    size = BufferSize::kMedium;
  }
  segments_[count_++] = {.base = pool_.Take(size), .begin = 0, .end = 0, .size = size};
}

// Without the segments that are not there yet: as much as they will have at least.
std::size_t TlsOutput::Room() const {
  if (count_ == 0) {
    return (kMaxSegments - 1) * BytesOf(BufferSize::kSmall) + BytesOf(BufferSize::kLarge);
  }
  std::size_t room = BytesOf(segments_[count_ - 1].size) - segments_[count_ - 1].end;
  if (count_ < kMaxSegments) {
    room += (kMaxSegments - 1 - count_) * BytesOf(BufferSize::kSmall) + BytesOf(BufferSize::kLarge);
  }
  return room;
}

bool TlsOutput::Append(const char* octets, std::size_t size) {
  if (size > Room()) {
    return false;
  }
  waiting_ += size;
  while (size > 0) {
    if (count_ == 0 || segments_[count_ - 1].end == BytesOf(segments_[count_ - 1].size)) {
      AddSegment();
    }
    Segment& last = segments_[count_ - 1];
    std::size_t part = std::min(size, BytesOf(last.size) - last.end);
    std::memcpy(last.base + last.end, octets, part);
    last.end += part;
    octets += part;
    size -= part;
    expected_ -= std::min(expected_, part);
  }
  return true;
}

std::size_t TlsOutput::HandOver(Buffers& out) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    Segment& segment = segments_[i];
    if (segment.begin < segment.end) {
      out[count++] = {.base = segment.base + segment.begin, .len = segment.end - segment.begin};
      segment.begin = segment.end;
    }
  }
  waiting_ = 0;
  return count;
}

void TlsOutput::Written() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    Segment& segment = segments_[i];
    if (segment.begin == segment.end) {
      pool_.Give(segment.base, segment.size);
    } else {
      segments_[kept++] = segment;
    }
  }
  count_ = kept;
}

void TlsOutput::Release() {
  for (std::size_t i = 0; i < count_; ++i) {
    pool_.Give(segments_[i].base, segments_[i].size);
  }
  count_ = 0;
  waiting_ = 0;
}

std::size_t TlsOutput::held_bytes() const {
  std::size_t held = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    held += BytesOf(segments_[i].size);
  }
  return held;
}

}  // namespace tidegate
