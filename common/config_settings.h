#pragma once

// What a row of settings_table.h consists of. One row gives parser, default, range check, JSON
// schema, `check --print` and the manual page.

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "common/config.h"
#include "common/json_reader.h"

namespace tidegate {

class SettingReader;
struct Setting;

// How values of one kind are read, written and described. `field` is what Setting::field gave.
struct ValueType {
  // What the manual calls it: "duration or off".
  std::string_view noun;
  // Reports faults to the reader and then leaves `field` as it was.
  void (*read)(SettingReader& reader, const Setting& setting, const JsonNode& node,
               const std::string& path, void* field);
  // Canonical JSON; reading it gives the same value. Null if there is nothing to write.
  nlohmann::ordered_json (*write)(const Setting& setting, const void* field);
  // The JSON schema of a value, without default and description.
  nlohmann::ordered_json (*schema)(const Setting& setting);
};

// Milliseconds, bytes or a count, both inclusive.
struct Range {
  std::uint64_t least = 0;
  std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
};

// The keys of one object.
struct Section {
  std::string_view name;
  std::span<const Setting> settings;
  // What no single key can see; called after all of them, with the object's node. May be null.
  void (*check)(SettingReader& reader, const JsonNode& node, const std::string& path,
                void* owner) = nullptr;
  // Keys of which a file must give one and only one.
  std::span<const std::string_view> one_of{};
};

// A vector of structs inside `owner`.
struct ListAccess {
  // A new last element with what it inherits; valid until the next Append.
  void* (*append)(void* owner);
  std::size_t (*size)(const void* owner);
  const void* (*at)(const void* owner, std::size_t index);
  // The element's name, for lists that are objects in the file.
  std::string& (*name)(void* element);
};

struct Setting {
  std::string_view key;
  const ValueType* type;
  // The value inside its owner. Of optional parts: makes them; ask `present` first when only
  // looking.
  void* (*field)(void* owner);
  // As it would be written, without quotes; empty: none.
  std::string_view default_text;
  Range range;
  // One sentence.
  std::string_view help;

  // The rest by the functions below.
  std::span<const std::string_view> choices{};
  const Section* section = nullptr;
  const ListAccess* list = nullptr;
  // Null: always.
  bool (*present)(const void* owner) = nullptr;
  // Where the general value is, if this one is only an exception from it.
  const void* (*inherited)(const Config& config) = nullptr;
  bool required = false;
  // Only in what EffectiveJson writes: contents of files. No file may have it, and nobody is shown
  // it.
  bool internal = false;

  constexpr Setting OneOf(std::span<const std::string_view> words) const {
    Setting copy = *this;
    copy.choices = words;
    return copy;
  }
  constexpr Setting Of(const Section& keys) const {
    Setting copy = *this;
    copy.section = &keys;
    return copy;
  }
  constexpr Setting In(const ListAccess& access) const {
    Setting copy = *this;
    copy.list = &access;
    return copy;
  }
  constexpr Setting When(bool (*is_present)(const void*)) const {
    Setting copy = *this;
    copy.present = is_present;
    return copy;
  }
  constexpr Setting Inherits(const void* (*from)(const Config&)) const {
    Setting copy = *this;
    copy.inherited = from;
    return copy;
  }
  constexpr Setting Required() const {
    Setting copy = *this;
    copy.required = true;
    return copy;
  }

  constexpr Setting Internal() const {
    Setting copy = *this;
    copy.internal = true;
    return copy;
  }

  bool IsPresent(const void* owner) const { return present == nullptr || present(owner); }
  // For reading only; IsPresent must be true.
  const void* FieldOf(const void* owner) const { return field(const_cast<void*>(owner)); }
};

// The types. The first are in config_scalars.cpp, lists in config_lists.cpp, objects in
// config_sections.cpp.
extern const ValueType kFlag;            // bool
extern const ValueType kCount;           // std::uint64_t
extern const ValueType kCountOrOff;      // std::uint64_t, kUnlimited
extern const ValueType kCountOrAuto;     // std::optional<std::uint64_t>
extern const ValueType kWorkersOrAuto;   // std::optional<unsigned>
extern const ValueType kDuration;        // Duration
extern const ValueType kDurationOrOff;   // Duration, kNever
extern const ValueType kSize;            // std::uint64_t
extern const ValueType kSizeOrOff;       // std::uint64_t, kUnlimited
extern const ValueType kByteRateOrOff;   // std::uint64_t octets a second, kUnlimited
extern const ValueType kChoice;          // an enum of one octet, in the order of the choices
extern const ValueType kStatus;          // int
extern const ValueType kRedirectStatus;  // int
extern const ValueType kBody;            // std::string, anything
extern const ValueType kName;            // std::string, and so on; see config_words.h
extern const ValueType kUser;
extern const ValueType kServerName;
extern const ValueType kPathPrefix;
extern const ValueType kLocation;
extern const ValueType kFile;
extern const ValueType kErrorLog;
extern const ValueType kAccessLog;
extern const ValueType kBindAddress;      // Address
extern const ValueType kEndpointAddress;  // Address
extern const ValueType kNetworks;         // std::vector<Network>
extern const ValueType kEndpoints;        // std::vector<EndpointConfig>
extern const ValueType kHosts;            // std::vector<std::string>, one string or an array
extern const ValueType kMethods;          // std::vector<std::string>, and so on
extern const ValueType kHeaderNames;
extern const ValueType kLoggedHeaders;
extern const ValueType kParameterNames;
extern const ValueType kHeaderMap;         // HeaderList
extern const ValueType kRequestHeaderMap;  // HeaderList, Host allowed
extern const ValueType kRetryOn;           // RetryConfig
extern const ValueType kProtocols;         // std::vector<Protocol>
extern const ValueType kSection;           // a struct with the keys of Setting::section
extern const ValueType kSectionList;       // the owner, whose list is Setting::list
extern const ValueType kSectionMap;        // the same, keyed by name
extern const ValueType kIncludes;          // nothing: config_source.cpp has read them
extern const ValueType kShortListener;     // Config: one more listener
extern const ValueType kShortUpstream;     // Config: one more upstream, and the route to it

// The whole file.
const Section& RootSection();

// The schema of an object with these keys.
nlohmann::ordered_json SectionSchema(const Section& section);
// Canonical JSON of `owner`. With `general`, what is inherited from it unchanged is left out.
nlohmann::ordered_json WriteSection(const Section& section, const void* owner,
                                    const Config* general = nullptr);

}  // namespace tidegate
