#include "supervisor/hand_over_counts.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "common/control_messages.h"
#include "common/text.h"

namespace tidegate {
namespace {

using nlohmann::json;

// By the names that `name_of` says: those of workers, or those of answers.
HandOverCounts Read(const json& object, std::string_view MoveKindRow::* name_of) {
  HandOverCounts counts;
  auto read = [&](const char* field, std::string_view name) {
    auto found = object.is_object() ? object.find(field) : object.end();
    return found != object.end() && found->is_object()
               ? std::min(NumberOf(*found, std::string(name).c_str()), kMostCounted)
               : 0;
  };
  for (std::size_t i = 0; i < kMoveKinds.size(); ++i) {
    counts.moved[i] = read("moved", kMoveKinds[i].*name_of);
  }
  for (std::size_t i = 0; i < kDeclines.size(); ++i) {
    counts.declined[i] = read("declined", kDeclines[i].word);
  }
  return counts;
}

// "3 declined (route 2, limits 1)"; empty if none was.
std::string DeclinedText(const HandOverCounts& counts) {
  std::string reasons;
  for (std::size_t i = 0; i < kDeclines.size(); ++i) {
    if (counts.declined[i] > 0) {
      reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", kDeclines[i].word,
                             counts.declined[i]);
    }
  }
  return reasons.empty() ? reasons
                         : fmt::format("{} declined ({})", counts.declined_count(), reasons);
}

}  // namespace

HandOverCounts& HandOverCounts::operator+=(const HandOverCounts& other) {
  std::ranges::transform(moved, other.moved, moved.begin(), std::plus<>());
  std::ranges::transform(declined, other.declined, declined.begin(), std::plus<>());
  return *this;
}

std::uint64_t HandOverCounts::declined_count() const {
  return std::accumulate(declined.begin(), declined.end(), std::uint64_t{0});
}

HandOverCounts HandOverCountsOf(const json& report) {
  return Read(report, &MoveKindRow::word);
}

json MovedJson(const HandOverCounts& counts) {
  json object = json::object();
  for (std::size_t i = 0; i < kMoveKinds.size(); ++i) {
    object[kMoveKinds[i].name] = counts.moved[i];
  }
  return object;
}

json DeclinedJson(const HandOverCounts& counts) {
  json object = json::object();
  for (std::size_t i = 0; i < kDeclines.size(); ++i) {
    if (counts.declined[i] > 0) {
      object[kDeclines[i].word] = counts.declined[i];
    }
  }
  return object;
}

HandOverCounts HandOverCountsIn(const json& object) {
  return Read(object, &MoveKindRow::name);
}

std::string HandOverText(const HandOverCounts& counts) {
  std::string text = fmt::format("{}, {} moved", CountOf(counts.moved[0], "idle connection"),
                                 CountOf(counts.moved[1], "tunnel"));
  if (counts.moved[2] > 0) {
    text += ", " + CountOf(counts.moved[2], "upstream connection");
  }
  std::string declined = DeclinedText(counts);
  return declined.empty() ? text : text + "; " + declined;
}

std::string ShortHandOverText(const HandOverCounts& counts) {
  std::string declined = DeclinedText(counts);
  if (counts.moved_connections() == 0) {
    return declined;
  }
  std::string text = fmt::format("{} moved", counts.moved_connections());
  return declined.empty() ? text : text + ", " + declined;
}

}  // namespace tidegate
