#pragma once

// What the rows of settings_table.h are made of: members as functions, ranges, and the rows that
// several objects have.

#include <array>
#include <chrono>

#include "common/config_settings.h"

namespace tidegate::settings {

// The member of a struct as a function.
template <auto Member>
struct MemberField;
template <class Owner, class Value, Value Owner::* Member>
struct MemberField<Member> {
  static void* Get(void* owner) { return &(static_cast<Owner*>(owner)->*Member); }
  static const Value& Of(const void* owner) { return static_cast<const Owner*>(owner)->*Member; }
};
template <auto Member>
inline constexpr auto kField = &MemberField<Member>::Get;

inline void* Same(void* owner) {
  return owner;
}

constexpr Range Between(Duration least, Duration most) {
  return {static_cast<std::uint64_t>(least.count()), static_cast<std::uint64_t>(most.count())};
}
constexpr Range Between(std::uint64_t least, std::uint64_t most) {
  return {least, most};
}

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

inline constexpr Range kAny{};
inline constexpr Range kWait = Between(milliseconds(1), hours(24 * 365));
inline constexpr Range kWaitOrNone = Between(milliseconds(0), hours(24 * 365));

// The file with the key of a CertificateConfig.
inline constexpr std::array kKeySettings = {
    Setting{"file", &kFile, kField<&CertificateConfig::key_file>, "", kAny,
            "A PEM file with the private key, relative to the file that names it."}
        .Required(),
};
inline constexpr Section kKey{"key", kKeySettings};

}  // namespace tidegate::settings
