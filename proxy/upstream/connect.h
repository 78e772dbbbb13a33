#pragma once

// One connection to one address of an endpoint: connect(2), then the TLS handshake where the
// endpoint has TLS, both within one timeout.

#include <memory>

#include "common/buffer_pool.h"
#include "common/counters.h"
#include "common/loop.h"
#include "common/result.h"
#include "common/stream.h"
#include "common/task.h"
#include "proxy/net/client_tls.h"
#include "proxy/net/resolver.h"

namespace tidegate {

// `peer`: null without TLS. Everything that is passed outlives the task, but `peer`, which the
// stream holds. Errors: kUpstreamRefused, kUpstreamConnectFailed, kOutOfDescriptors,
// kUpstreamConnectTimeout, those of TlsPeer::TakeError; after a cancellation any.
Task<Result<std::unique_ptr<Stream>>> ConnectTo(Loop& loop, BufferPool& buffers, Counters& counters,
                                                const SocketAddress& address,
                                                std::shared_ptr<TlsPeer> peer, Duration timeout,
                                                CancelSlot& cancel);

}  // namespace tidegate
