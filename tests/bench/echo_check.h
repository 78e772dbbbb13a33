#pragma once

// What one tunnel sends and what must come back: numbered messages whose octets follow from the
// tunnel's number and their own. The origin returns the octets as they are, mask included, so a
// message is right only if every octet of its frame is.

#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "frames.h"

namespace bench {

struct EchoCounts {
  std::size_t sent = 0;
  std::size_t echoed = 0;
  std::size_t octets = 0;        // of the messages that came back right
  std::size_t lost = 0;          // never came
  std::size_t doubled = 0;       // came again
  std::size_t out_of_order = 0;  // came behind a later one
  std::size_t corrupted = 0;     // other octets than were sent, or no frame at all
};

class EchoCheck {
 public:
  EchoCheck(std::uint32_t tunnel, EchoCounts& counts) : tunnel_(tunnel), counts_(counts) {}

  // The next message, as the frame that goes out.
  std::string Next() {
    ++counts_.sent;
    return Message(tunnel_, next_++);
  }

  std::size_t Outstanding() const {
    return static_cast<std::size_t>(next_ - expected_) + missing_.size();
  }

  enum class Verdict { kGoOn, kBroken, kClosed };

  // kBroken: what comes now is no frame of ours; nothing behind it can be judged. kClosed: the
  // other side took leave with a close frame.
  Verdict Take(std::string_view input) {
    unread_ += input;
    std::size_t begin = 0;
    Verdict verdict = Verdict::kGoOn;
    while (verdict == Verdict::kGoOn) {
      std::string_view rest = std::string_view(unread_).substr(begin);
      FrameHead head;
      Parsed parsed = ParseFrameHead(rest, kMostBytes, head);
      if (parsed == Parsed::kBroken) {
        verdict = Corrupt();
      }
      if (parsed != Parsed::kWhole || rest.size() < head.head_bytes + head.payload_bytes) {
        break;
      }
      verdict = OnFrame(head, rest.substr(0, head.head_bytes + head.payload_bytes));
      begin += head.head_bytes + head.payload_bytes;
    }
    unread_.erase(0, begin);
    return verdict;
  }

  // The tunnel is over, or the run: what has not come does not come any more. A new tunnel goes on
  // with the next number.
  void GiveUp() {
    counts_.lost += Outstanding();
    expected_ = next_;
    missing_.clear();
    unread_.clear();
  }

 private:
  static constexpr std::size_t kMostBytes = 48U * 1024U;
  static constexpr std::size_t kNumbersBytes = 12;

  // Sizes from 12 octets to 48 KiB: most are small, one in twenty is larger than a relay's buffer
  // may be.
  static std::size_t SizeOf(std::uint64_t draw) {
    std::uint64_t kind = draw % 100;
    std::uint64_t size = draw / 100;
    std::size_t span = kind < 70 ? 512 : kind < 95 ? 8192 : kMostBytes - kNumbersBytes;
    return kNumbersBytes + size % span;
  }

  static std::string Message(std::uint32_t tunnel, std::uint64_t number) {
    Random random(std::uint64_t{tunnel} << 40U | (number + 1));
    std::string payload(SizeOf(random.Next()), '\0');
    std::memcpy(payload.data(), &tunnel, 4);
    std::memcpy(payload.data() + 4, &number, 8);
    unsigned char mask[4];
    random.Fill(reinterpret_cast<char*>(mask), sizeof(mask));
    random.Fill(payload.data() + kNumbersBytes, payload.size() - kNumbersBytes);
    std::string frame;
    AppendFrame(frame, kBinaryFrame, payload, &mask);
    return frame;
  }

  Verdict Corrupt() {
    ++counts_.corrupted;
    return Verdict::kBroken;
  }

  Verdict OnFrame(const FrameHead& head, std::string_view frame) {
    if (head.opcode == kCloseFrame) {
      return Verdict::kClosed;
    }
    if (head.opcode != kBinaryFrame || !head.is_masked || head.payload_bytes < kNumbersBytes) {
      return Corrupt();
    }
    char numbers[kNumbersBytes];
    std::memcpy(numbers, frame.data() + head.head_bytes, kNumbersBytes);
    Mask(numbers, kNumbersBytes, head.mask);
    std::uint32_t tunnel = 0;
    std::uint64_t number = 0;
    std::memcpy(&tunnel, numbers, 4);
    std::memcpy(&number, numbers + 4, 8);
    // Another tunnel's octets are as wrong as changed ones.
    if (tunnel != tunnel_ || number >= next_ || frame != Message(tunnel, number)) {
      return Corrupt();
    }
    OnNumber(number, frame.size());
    return Verdict::kGoOn;
  }

  void OnNumber(std::uint64_t number, std::size_t size) {
    if (number < expected_) {
      if (missing_.erase(number) == 0) {
        ++counts_.doubled;
        return;
      }
      ++counts_.out_of_order;
    } else {
      for (; expected_ < number; ++expected_) {
        missing_.insert(expected_);
      }
      ++expected_;
    }
    ++counts_.echoed;
    counts_.octets += size;
  }

  std::uint32_t tunnel_;
  EchoCounts& counts_;
  std::uint64_t next_ = 0;
  std::uint64_t expected_ = 0;       // the lowest that neither came nor was overtaken
  std::set<std::uint64_t> missing_;  // overtaken
  std::string unread_;
};

}  // namespace bench
