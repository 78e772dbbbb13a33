#pragma once

// A log file as a bounded buffer: appending never waits for the disk. A thread of libuv's pool
// writes; one write is under way at a time, while new lines gather behind it.
//
//   1. At most kCapacity octets are held, written and unwritten together. Lines for which there is
//      no room are dropped and counted.
//   2. Lines are never reordered and never split over two files.
//   3. What cannot be written (ENOSPC, EIO, a closed pipe) is dropped and counted, each line once:
//   also
//      one of which a part is in the file. stderr is told once when dropping starts and once when
//      it has ended.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "common/counters.h"
#include "common/loop.h"
#include "common/unique_fd.h"

namespace tidegate {

class LogSink {
 public:
  static constexpr std::size_t kCapacity = 1024 * 1024;
  // So much is written at once; less waits for kFlushInterval.
  static constexpr std::size_t kFlushBytes = 64 * 1024;
  static constexpr Duration kFlushInterval = std::chrono::milliseconds(200);

  // `fd` was opened by the supervisor for appending. `name` ("access log") is for messages. The
  // loop outlives the sink.
  LogSink(Loop& loop, UniqueFd fd, std::string name);
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;
  // FlushNow. A write that hangs longer goes on with the descriptor; the loop must turn until it is
  // over (RunUntilClosed) or not at all any more.
  ~LogSink();

  // What is dropped from now on, now or later, is added to kLogLinesDropped there as well.
  // `counters` outlive the sink.
  void CountDropsIn(Counters& counters) { counters_ = &counters; }

  // One line or several, each with its newline. False: dropped.
  bool Append(std::string_view lines);
  // Starts writing what is there, as soon as the write that is under way has ended.
  void Flush();
  // Writes here and now, for the end of the process. Waits at most kFlushNowLimit for a write that
  // is under way, and leaves everything as it is if that hangs.
  void FlushNow();
  // For a file that was moved away: lines that were appended before go to the old descriptor, which
  // is then closed, later ones to `fd`.
  void Replace(UniqueFd fd);

  // Lines, since the start.
  std::uint64_t dropped() const { return dropped_; }
  // Octets that are not yet in the file.
  std::size_t buffered() const { return buffered_; }

 private:
  static constexpr Duration kFlushNowLimit = std::chrono::seconds(1);
  // One write in the pool. Owned by libuv from StartWrite until its callback.
  struct Write;
  // A file and what waits for it.
  struct Target {
    UniqueFd fd;
    std::string lines;
    // The file ends in the middle of a line, because a write failed there; the line is counted.
    bool ends_mid_line = false;
    // The write that is under way begins with the newline that ends that line.
    bool mending = false;
  };

  void OnFlushTime();
  void StartWrite();
  // What waits for the first target, as it is written.
  std::string TakeLines();
  static void OnWritten(Write* write);
  // Takes the result of a write; the part that was not written is gone.
  void Settle(std::string_view data, std::size_t written, int error);
  void CloseWrittenTargets();
  void Drop(std::string_view lines, std::string_view why);

  Loop& loop_;
  std::string name_;
  // Lines are appended to the last and written from the first. Never empty.
  std::deque<Target> targets_;
  // Under way, for the first target; null if none is.
  Write* write_ = nullptr;
  Deadline flush_;
  // Write on when the write that is under way has ended.
  bool flush_wanted_ = false;
  std::size_t buffered_ = 0;
  std::uint64_t dropped_ = 0;
  // Null: dropped_ alone.
  Counters* counters_ = nullptr;
  // When the dropping that stderr was told of began; what dropped() was before.
  bool dropping_ = false;
  std::uint64_t dropped_before_ = 0;
  std::uint64_t dropped_at_write_ = 0;
  // An empty string with room, so that a line costs no allocation.
  std::string spare_;
};

}  // namespace tidegate
