#pragma once

// How long requests took, kept apart by what happened meanwhile: an upgrade, the drain behind it,
// or neither; and a wake-up of the idle connections or not. A wake-up is a burst that the load
// makes itself; with it in the figures they would say little about the upgrade, without it they
// would say nothing about both.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

// In the order of what they do to a request that spans two of them.
enum class Window { kQuiet, kBetween, kUpgrade };
constexpr const char* kWindowNames[] = {"quiet", "between", "upgrade"};

// What is going on now; one for the whole program.
struct Phase {
  Window window = Window::kQuiet;
  std::size_t upgrades_begun = 0;
  std::size_t waking = 0;  // requests of wake-ups that wait for their answers
  std::size_t wake_ups = 0;
  Clock::time_point woken;

  // A connection that is stuck does not make all that follows a wake-up.
  bool InBurst() const { return waking > 0 && Clock::now() - woken < std::chrono::seconds(1); }
};

// Taken when a request goes out.
struct Moment {
  Window window = Window::kQuiet;
  bool in_burst = false;
  std::size_t upgrades_begun = 0;
  std::size_t wake_ups = 0;

  static Moment Of(const Phase& phase) {
    return {phase.window, phase.InBurst(), phase.upgrades_begun, phase.wake_ups};
  }
};

class Latency {
 public:
  void Add(const Moment& begun, const Phase& now, Clock::duration took) {
    Window window = begun.upgrades_begun != now.upgrades_begun ? Window::kUpgrade
                                                               : std::max(begun.window, now.window);
    bool in_burst = begun.in_burst || now.InBurst() || begun.wake_ups != now.wake_ups;
    auto micros = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
    samples_[static_cast<std::size_t>(window)][in_burst ? 1 : 0].push_back(
        static_cast<std::uint32_t>(std::min<long long>(micros, UINT32_MAX)));
  }

  // As members of a JSON object.
  void Print() {
    for (std::size_t at = 0; at < 3; ++at) {
      auto& [calm, burst] = samples_[at];
      PrintOne(kWindowNames[at], "calm", calm);
      calm.insert(calm.end(), burst.begin(), burst.end());
      PrintOne(kWindowNames[at], "all", calm);
    }
  }

 private:
  static void PrintOne(const char* window, const char* which, std::vector<std::uint32_t>& micros) {
    std::sort(micros.begin(), micros.end());
    auto percentile = [&](double share) {
      auto index = static_cast<std::size_t>(share * static_cast<double>(micros.size()));
      return micros.empty() ? 0U : micros[std::min(index, micros.size() - 1)];
    };
    std::printf(
        "\"%s_%s\": {\"count\": %zu, \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u, "
        "\"most_us\": %u}, ",
        window, which, micros.size(), percentile(0.5), percentile(0.99), percentile(0.999),
        micros.empty() ? 0U : micros.back());
  }

  std::vector<std::uint32_t> samples_[3][2];
};

}  // namespace bench
