#pragma once

// Walks a tree along the settings table and fills a Config.

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/config_diagnostics.h"
#include "common/config_settings.h"
#include "common/json_reader.h"

namespace tidegate {

// True if the object has one of `keys`, or an unknown key that is a misspelling of one: then it is
// not reported as missing too.
bool HasNearKey(const Section& section, const JsonNode& node,
                std::span<const std::string_view> keys);

class SettingReader {
 public:
  // What is read: a file of a user, or what EffectiveJson has written, which has internal settings.
  enum class Source : std::uint8_t { kFile, kEffective };
  // `origins` may be null; otherwise it gets "file:line" for the path of each value.
  SettingReader(Diagnostics& diagnostics, std::map<std::string, std::string>* origins,
                Source source = Source::kFile)
      : diagnostics_(diagnostics), origins_(origins), source_(source) {}

  // Everything in `root`. Faults go to the diagnostics; what is at fault keeps its default.
  void ReadRoot(const JsonNode& root, Config& config);

  // For value types:

  void ReadSection(const Section& section, const JsonNode& node, const std::string& path,
                   void* owner);
  // A fault of the value at `node`.
  void Fault(const JsonNode& node, const std::string& path, std::string message,
             std::string suggestion = {});
  void Fault(const JsonNode& node, const std::string& path, const Error& error);
  // `expected a duration such as "30s", not an array`. Says nothing for a value whose variable is
  // not set.
  void Expected(const JsonNode& node, const std::string& path, std::string_view what,
                std::string suggestion = {});
  // True if `node` is a string that can be used; otherwise says what was expected.
  bool IsText(const JsonNode& node, const std::string& path, std::string_view what);
  // The value at `path` was given at `node`.
  void Origin(const JsonNode& node, const std::string& path);
  Diagnostics& diagnostics() { return diagnostics_; }

 private:
  // The row of a key; null: there is none for this source.
  const Setting* Find(const Section& section, std::string_view key) const;
  void CheckOneOf(const Section& section, const JsonNode& node, const std::string& path);
  void ReportUnknown(const Section& section, const JsonMember& member, const std::string& path);

  Diagnostics& diagnostics_;
  std::map<std::string, std::string>* origins_;
  Source source_;
};

}  // namespace tidegate
