#pragma once

// An H2Connection over a stream that the test plays: what the client sends, what it has read of the
// answers, and the streams that a handler would serve.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/buffer_pool.h"
#include "common/loop.h"
#include "proxy/http/h2_connection.h"
#include "tests/support/h2_frames.h"
#include "tests/support/played_stream.h"

namespace tidegate {

class H2Rig : public ::testing::Test, public H2Handler {
 public:
  struct Request {
    std::unique_ptr<RequestHead> head;
    std::unique_ptr<H2ServerStream> stream;
    std::optional<Error> refused;
  };

  RequestHead* NextHead() override {
    if (requests.size() >= most) {
      return nullptr;
    }
    if (next_head_ == nullptr) {
      next_head_ = std::make_unique<RequestHead>();
    }
    return next_head_.get();
  }
  const DecoderLimits& HeadLimits() override { return limits; }
  void OnRequest(std::unique_ptr<H2ServerStream> stream, std::optional<Error> refused) override {
    requests.push_back({std::move(next_head_), std::move(stream), std::move(refused)});
  }
  void OnClientReset() override { ++client_resets; }
  void OnChange() override { ++changes; }

 protected:
  H2Rig() {
    auto stream = std::make_unique<PlayedStream>();
    played = stream.get();
    connection.emplace(loop, pool, std::move(stream), limits, *this);
  }
  ~H2Rig() override {
    requests.clear();
    ReadyQueue::Drain();
    connection.reset();
    ReadyQueue::Drain();
  }

  // The client's preface and settings, and what follows them.
  void Begin(std::string_view more = {}, std::string_view settings = {}) {
    connection->Start();
    Come(h2::Hello(settings) + std::string(more));
  }
  void Come(std::string_view octets) {
    played->Come(octets);
    Turn();
  }
  // One turn: then what was written is in `client`.
  void Turn() {
    ReadyQueue::Drain();
    client.Take(played->TakeWritten());
  }
  // Whatever the client takes is taken.
  void TakeAll() {
    for (int i = 0; i < 1000 && played->unwritten() > 0; ++i) {
      played->TakePending();
      Turn();
    }
  }
  H2ServerStream& StreamAt(std::size_t index) { return *requests.at(index).stream; }
  // Waits in a task of its own; the outcome is told in `outcomes`.
  Task<void> Answer(H2ServerStream& stream, ResponseHead& head, std::string_view body, bool last) {
    auto written = co_await stream.WriteHead(head, body, last);
    outcomes.push_back(written ? "ok" : std::string(RowOf(written.error().kind()).log_name));
  }
  Task<void> Write(H2ServerStream& stream, std::string_view body, bool last,
                   const Fields* trailers = nullptr) {
    auto written = co_await stream.WriteBody(body, last, trailers);
    outcomes.push_back(written ? "ok" : std::string(RowOf(written.error().kind()).log_name));
  }
  Task<void> Read(H2ServerStream& stream) {
    auto chunk = co_await stream.ReadBody();
    if (!chunk) {
      outcomes.emplace_back(RowOf(chunk.error().kind()).log_name);
      co_return;
    }
    outcomes.push_back(std::string(chunk->data.data(), chunk->data.size()) +
                       (chunk->last ? "|" : ""));
  }
  std::vector<std::string> TakeOutcomes() { return std::exchange(outcomes, {}); }
  static ResponseHead& Ok(ResponseHead& head, BodyKind body = BodyKind::kChunked,
                          std::uint64_t length = 0) {
    head.status = 200;
    head.body = body;
    head.content_length = length;
    return head;
  }
  const h2::Reader::Seen& Goaway() {
    for (const h2::Reader::Seen& seen : client.frames) {
      if (seen.type == h2::kGoaway) {
        return seen;
      }
    }
    static const h2::Reader::Seen kNone{.payload = std::string(8, '\xff')};
    return kNone;
  }

  Loop loop;
  BufferPool pool;
  DecoderLimits limits;
  std::size_t most = 1000;
  std::vector<Request> requests;
  TaskScope scope;
  std::optional<H2Connection> connection;
  PlayedStream* played = nullptr;
  h2::Reader client;
  std::vector<std::string> outcomes;
  unsigned client_resets = 0;
  unsigned changes = 0;

 private:
  std::unique_ptr<RequestHead> next_head_;
};

}  // namespace tidegate
