#include "supervisor/stragglers.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr Duration kAskEvery = std::chrono::seconds(1);

json LimitOf(Duration limit) {
  return limit == kNever ? json(nullptr) : json(static_cast<double>(limit.count()) / 1000.0);
}

// It is not to be found again, but to end.
std::vector<json> Dismissal(Duration drain, Duration drain_tunnels) {
  json message = MakeControlMessage("drain");
  message["drain_seconds"] = LimitOf(drain);
  message["drain_tunnels_seconds"] = LimitOf(drain_tunnels);
  message["close_idle"] = false;
  return {MakeControlMessage("control_listener"), std::move(message)};
}

}  // namespace

void DismissStraggler(int channel, Duration drain, Duration drain_tunnels) {
  for (const json& message : Dismissal(drain, drain_tunnels)) {
    (void)SendControl(channel, message, {}, Duration::zero());
  }
}

std::vector<std::string> PlacesBeside(const std::string& path) {
  std::vector<std::string> places;
  for (char number = '0'; number <= '9'; ++number) {
    places.push_back(path + '.' + number);
  }
  return places;
}

Stragglers::Stragglers(Loop& loop)
    : loop_(loop), again_(loop.timers(), Bind<&Stragglers::Ask>(this)) {}

Stragglers::~Stragglers() = default;

void Stragglers::Look(const std::string& path, Duration drain, Duration drain_tunnels) {
  drain_ = drain;
  drain_tunnels_ = drain_tunnels;
  for (const std::string& place : PlacesBeside(path)) {
    struct stat info{};
    if (::lstat(place.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
      places_.push_back(Place{.path = place, .asked = nullptr});
    }
  }
  Ask();
}

void Stragglers::Ask() {
  std::erase_if(places_, [this](Place& place) { return !place.asked && !AskAt(place); });
  if (!places_.empty()) {
    again_.Arm(kAskEvery);
  }
}

bool Stragglers::AskAt(Place& place) {
  Result<UniqueFd> fd = ConnectControl(place.path, Duration::zero());
  if (!fd) {
    int reason = fd.error().system_errno();
    if (reason == ECONNREFUSED) {
      ::unlink(place.path.c_str());
    }
    return reason != ECONNREFUSED && reason != ENOENT;
  }
  place.asked = std::make_unique<ControlChannel>(loop_, std::move(*fd), *this);
  place.asked->Send(MakeControlMessage("takeover"));
  for (const json& message : Dismissal(drain_, drain_tunnels_)) {
    place.asked->Send(message);
  }
  return true;
}

void Stragglers::OnControlMessage(ControlChannel& channel, ControlMessage message) {
  if (message.type() != "adopted") {
    return;
  }
  LogEvent(LogLevel::kInfo,
           fmt::format("worker {} of a dead supervisor (generation {}, pid {}) answers at last and "
                       "drains",
                       NumberOf(message.body, "slot"), NumberOf(message.body, "generation"),
                       NumberOf(message.body, "pid")));
  for (Place& place : places_) {
    if (place.asked.get() == &channel) {
      draining_.push_back(std::move(place.asked));
    }
  }
}

void Stragglers::OnControlClosed(ControlChannel& channel, const Error&) {
  for (Place& place : places_) {
    if (place.asked.get() == &channel) {
      place.asked.reset();
      return;
    }
  }
  std::erase_if(draining_, [&](const auto& held) { return held.get() == &channel; });
}

}  // namespace tidegate
