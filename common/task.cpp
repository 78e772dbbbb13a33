#include "common/task.h"

#include <vector>

namespace tidegate {
namespace {

// A ring would save nothing: Drain swaps the vectors and both keep their capacity.
struct Queue {
  std::vector<std::coroutine_handle<>> posted;
  std::vector<std::coroutine_handle<>> running;
  bool draining = false;
};
thread_local Queue queue;

}  // namespace

void ReadyQueue::Post(std::coroutine_handle<> coroutine) {
  TG_CHECK(coroutine);
  queue.posted.push_back(coroutine);
}

void ReadyQueue::Drain() {
  TG_CHECK(!queue.draining);
  queue.draining = true;
  while (!queue.posted.empty()) {
    queue.running.swap(queue.posted);
    for (std::coroutine_handle<> coroutine : queue.running) {
      coroutine.resume();
    }
    queue.running.clear();
  }
  queue.draining = false;
}

bool ReadyQueue::empty() {
  return queue.posted.empty();
}

}  // namespace tidegate
