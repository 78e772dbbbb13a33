#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "common/buffer_pool.h"
#include "common/counters.h"
#include "common/log.h"
#include "common/loop.h"
#include "proxy/client_info.h"
#include "proxy/header_rules.h"
#include "proxy/net/handshakes.h"
#include "proxy/snapshot.h"

namespace tidegate {

// What a worker gives to its sessions and exchanges. Outlives them all.
struct Services {
  Loop& loop;
  BufferPool& buffers;
  Counters& counters;
  // The configuration in force; never null while something is accepted.
  std::shared_ptr<const Snapshot> snapshot;
  // Null: no access log.
  std::unique_ptr<LogSink> access_log;
  // Where a line is made before it goes to the log; kept for its capacity.
  std::string log_line;
  std::uint64_t generation = 0;
  RequestIds request_ids;
  HttpDate date;
  // With clients.
  Handshakes handshakes{loop};
  // Streams of HTTP/2 that are being served; each costs what a connection of HTTP/1 does. Called
  // while many of them begin; may be nothing.
  std::size_t h2_streams = 0;
  Callback on_many_streams;
  // Those of them that are not the first of their connection: each may need a descriptor more, for
  // its endpoint. From so many on a connection has one at a time. Called when the number changes;
  // may be nothing.
  std::size_t h2_more_streams = 0;
  std::uint64_t most_h2_more_streams = std::numeric_limits<std::uint64_t>::max();
  Callback on_more_streams;
};

}  // namespace tidegate
